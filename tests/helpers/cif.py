"""Small CIF files of crystals that are not built in."""

from pathlib import Path

SITE = ("label", "fract_x", "fract_y", "fract_z", "occupancy")
CELL = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
HEXAGONAL = (90, 90, 120)
CRYSTALS = {  # lattice, space group and its number, sites
    "Ni": ((3.524,) * 3 + (90,) * 3, "F m -3 m", 225, ["Ni 0 0 0 1"]),
    "Ti": ((2.951, 2.951, 4.684, *HEXAGONAL), "P 63/m m c", 194, ["Ti 0.33333 0.66667 0.25 1"]),
    "LiCoO2": (
        (2.816, 2.816, 14.05, *HEXAGONAL),
        *("R -3 m :H", 166, ["Li 0 0 0.5 1", "Co 0 0 0 1", "O 0 0 0.2395 1"]),
    ),
    "Li2MnO3": (
        (4.937, 8.532, 5.030, 90, 109.46, 90),
        *("C 1 2/m 1", 12, ["Mn 0 0.16708 0 1", "Li 0 0.5 0 1", "Li 0 0 0.5 1", "Li 0 0.6606 0.5 1"]),
    ),
    "disordered": (
        (4.937, 8.532, 5.03, 90, 109.46, 90),
        *("C 2/m", 12, ["Mn 0 0.167 0 1", "Li 0 0.5 0 0.5", "O 0.219 0 0.227 1"]),
    ),
    "GaAs": ((5.653,) * 3 + (90,) * 3, "F -4 3 m", 216, ["Ga 0 0 0 1", "As 0.25 0.25 0.25 1"]),
    "tetragonal": ((3, 3, 4, 90, 90, 90), "P 4/m m m", 123, ["Cu 0 0 0 1"]),
}
CRYSTALS["Li2MnO3"][3].extend(["O 0.2189 0 0.2273 1", "O 0.2540 0.32119 0.2233 1"])


def write_cif(folder: Path, name: str) -> Path:
    """Write one of the `CRYSTALS`."""
    lattice, symbol, number, sites = CRYSTALS[name]
    lines = [f"data_{name}", *(f"_cell_{key} {value}" for key, value in zip(CELL, lattice, strict=True))]
    lines += [f"_symmetry_space_group_name_H-M '{symbol}'", f"_symmetry_Int_Tables_number {number}", "loop_"]
    path = folder / f"{name}.cif"
    path.write_text("\n".join([*lines, *(f"_atom_site_{key}" for key in SITE), *sites]) + "\n")
    return path


def crystal_text(
    cell: tuple,
    sites: list[str],
    symbol: str = "",
    number: int = 0,
    hall: str = "",
    operations: list[str] | None = None,
    formula: str = "",
    volume: float = 0.0,
    density: float = 0.0,
    columns: tuple | list = (),
    type: bool = True,
    dots: bool = False,
    extra: str = "",
) -> str:
    """The text of a CIF file; sites are rows of label, type, x, y, z and the further columns."""
    lines = [
        "data_own",
        *(f"_cell_{key} {value}" for key, value in zip(CELL, (*cell, 90, 90, 90), strict=False)),
    ]
    tags = {
        "_space_group_name_H-M_alt": f"'{symbol}'" * bool(symbol),
        "_space_group_IT_number": number,
        "_space_group_name_Hall": f"'{hall}'" * bool(hall),
        "_chemical_formula_sum": f"'{formula}'" * bool(formula),
        "_cell_volume": volume,
        "_exptl_crystal_density_diffrn": density,
    }
    lines += [f"{tag} {value}" for tag, value in tags.items() if value]
    if operations:
        lines += [
            "loop_",
            "_space_group_symop_operation_xyz",
            *(f'"{operation}"' for operation in operations),
        ]
    names = ("label", *(["type_symbol"] * type), "fract_x", "fract_y", "fract_z", *columns)
    lines += [*extra.splitlines(), "loop_", *(f"_atom_site_{name}" for name in names), *sites, ""]
    text = "\n".join(lines)
    return text.replace("_atom_site_", "_atom_site.").replace("_cell_", "_cell.") if dots else text
