"""Nothing connects to another machine: Python reports every connection before it is made, and it is refused here.

What Python itself does not open is not seen: the rendezvous of torchrun and Slurm, which the user names, and other programs.
"""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

from audioldm_lit.errors import InputError

LOOKED_UP = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")  # whose first argument is a host
SENT = ("socket.connect", "socket.sendto", "socket.sendmsg")  # whose second is an address
_state = {"watched": False, "closed": False}


@contextmanager
def closed() -> Iterator[None]:
    """Refuse connections to other machines while the block runs; those within this one go on."""
    if not _state["watched"]:
        sys.addaudithook(_watch)
        _state["watched"] = True
    before = _state["closed"]
    _state["closed"] = True
    try:
        yield
    finally:
        _state["closed"] = before


def allow() -> None:
    """Let connections pass, until the block that refuses them ends: the user has named something whose purpose they are."""
    _state["closed"] = False


def _watch(event: str, args: tuple[Any, ...]) -> None:
    if not _state["closed"] or not event.startswith("socket."):
        return
    if event in LOOKED_UP:
        host = args[0]
    elif event in SENT and args[0].family != socket.AF_UNIX and args[1]:
        host = args[1][0]
    else:
        return
    if not _is_here(host.decode(errors="replace") if isinstance(host, bytes) else host):
        mend = "fetch what is needed with `assets fetch`; a class of your own whose purpose it is calls console.air_gap.allow()"
        raise InputError(str(host), "would be connected to, which no verb but `assets fetch` does", mend)


def _is_here(host: str | None) -> bool:
    """Whether a host is this machine, or the one at which the processes of a run meet."""
    if not host or host in ("localhost", socket.gethostname(), os.environ.get("MASTER_ADDR")):
        return True
    try:
        return ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False
