// Maps the Bragg peaks of a scan by libtorch, on a processor or a GPU.
//
//   torchscript MODEL.ts PEAKS.csv [DEVICE] > orientations.csv
//
// MODEL.ts is what `microinfer export MODEL --out MODEL.ts` wrote; scan.hpp says what PEAKS.csv holds; DEVICE
// is cpu (the default) or cuda.
#include "../scan.hpp"

#include <microinfer/torchscript.hpp>

#include <cstdio>
#include <exception>
#include <string>

int main(int argc, char** argv) {
    if (argc < 3 || argc > 4) {
        std::fprintf(stderr, "usage: torchscript MODEL.ts PEAKS.csv [DEVICE] > orientations.csv\n");
        return 1;
    }
    try {
        const scan::Rows rows = scan::read(argv[2]);
        const microinfer::TorchScriptModel model(argv[1], argc > 3 ? argv[3] : "cpu");
        scan::print_names();
        for (std::size_t row = 0; row < rows.size(); ++row) {
            scan::print(row, model.map(scan::peaks_of(rows[row])), model.model());
        }
        scan::finish();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "error: %s\n", error.what());
        return 1;
    }
    return 0;
}
