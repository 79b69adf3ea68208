"""The models inside the package, and what their cards say."""

from typing import Any

from microinfer.models.checkpoint import Model, load_model, shipped_models


class ShippedModels(dict[str, Model]):
    """Shipped models by name; shown as a table of what each knows and how good it is."""

    def __repr__(self) -> str:
        return "\n".join(line for model in self.values() for line in [repr(model), *figure_lines(model.card)])


def list_models() -> ShippedModels:
    """Return the shipped models by name; in a notebook they show what each knows and how good it is.

    Returns
    -------
    dict of str to Model
        ``microinfer.models()["cu"].card`` holds all facts about a model.
    """
    return ShippedModels((name, load_model(name)) for name in shipped_models())


def figure_lines(card: dict[str, Any]) -> list[str]:
    """What ``microinfer evaluate`` measured of a model, a line for each test set."""
    # cards of the first models hold plain numbers here, of no test set in particular
    figures = {test: found for test, found in card.get("figures", {}).items() if isinstance(found, dict)}
    return [
        f"  {test}: {found['within_3_deg']:.1%} within 3 degrees, median {found['median_error_deg']:.2f}, mean "
        f"{found['mean_error_deg']:.2f} degrees"
        for test, found in figures.items()
    ]
