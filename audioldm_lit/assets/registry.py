"""The assets that are known by name."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache

import yaml

from audioldm_lit.assets.asset import Asset
from audioldm_lit.assets.sources import ByHand, Download, HubModel, WheelContent
from audioldm_lit.errors import InputError
from audioldm_lit.places import packaged
from audioldm_lit.storage.fetch import Wheel

SOURCES: Mapping[str, type[Asset]] = {"hub": HubModel, "url": Download, "wheel": WheelContent, "page": ByHand}  # by the key of each
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


@cache
def registry() -> Mapping[str, Asset]:
    """Every asset by its name."""
    content = yaml.safe_load(packaged("assets/registry.yaml").read_text(encoding="utf-8"))
    return {name: next(SOURCES[key] for key in SOURCES if key in entry)(name=name, **entry) for name, entry in content.items()}


def known(name: str) -> Asset | None:
    """An asset by its name, or a model of the hub by its id."""
    by_id = {asset.hub: asset for asset in registry().values() if isinstance(asset, HubModel)}
    return registry().get(name) or by_id.get(name)


def asset(name: str) -> Asset:
    """An asset by its name; any model of the hub by its id.

    Raises:
        InputError: If it is neither, with the nearest name that is.
    """
    if found := known(name):
        return found
    if HUB_ID.fullmatch(name):
        return HubModel(name=name, about=f"the hub model {name}", licence="unknown", wanted=f"--backbone {name}", hub=name)
    near = nearest(name)
    raise InputError(name, "is no asset", f"the nearest is {near}" if near else "see python -m audioldm_lit assets list")


def wheel(name: str) -> Wheel:
    """The wheel that an asset is taken out of."""
    found = registry()[name]
    assert isinstance(found, WheelContent)
    return found.source()


def nearest(name: str) -> str | None:
    """The name or hub id that is most like a name."""
    ids = [found.hub for found in registry().values() if isinstance(found, HubModel)]
    return next(iter(get_close_matches(name, ids if "/" in name else registry(), n=1, cutoff=0.75)), None)
