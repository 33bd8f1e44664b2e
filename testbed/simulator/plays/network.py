"""MetalLB: addresses for Services of type LoadBalancer, out of the IPAddressPools that are there."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from testbed.simulator import builtin
from testbed.simulator.objects import Obj, get
from testbed.simulator.operators import METALLB
from testbed.simulator.play import Play
from testbed.simulator.scene import Scene

POOLS = "ipaddresspools.metallb.io"


async def _load_balancer(scene: Scene) -> None:
    if get(scene.obj, "status", "loadBalancer", "ingress"):
        scene.note_healthy()
        return
    resources = POOLS, builtin.SERVICES.name
    await scene.until(resources, lambda: _free(scene), what=("IPAddressPool", "", ""))
    await scene.wait()
    address = await scene.until(resources, lambda: _free(scene), what=("IPAddressPool", "", ""))
    await scene.healthy({"loadBalancer": {"ingress": [{"ip": address, "ipMode": "VIP"}]}})


def _free(scene: Scene) -> str | None:
    taken = {
        entry.get("ip")
        for service in scene.store.all(builtin.SERVICES.name)
        for entry in get(service, "status", "loadBalancer", "ingress") or ()
    }
    return next((address for address in _pooled(scene) if address not in taken), None)


def _pooled(scene: Scene) -> Iterator[str]:
    for pool in scene.store.all(POOLS):
        for entry in get(pool, "spec", "addresses") or ():
            yield from addresses(entry)


def addresses(entry: str) -> Iterator[str]:
    """`10.0.0.1-10.0.0.9` or `10.0.0.0/24`."""
    if "-" not in entry:
        yield from (str(address) for address in ipaddress.ip_network(entry, strict=False))
        return
    first, last = (ipaddress.ip_address(part.strip()) for part in entry.split("-"))
    for number in range(int(first), int(last) + 1):
        yield str(ipaddress.ip_address(number))


def _wants_address(service: Obj) -> bool:
    return bool(service["spec"].get("type") == "LoadBalancer")


PLAYS = (
    Play(
        builtin.SERVICES.name,
        METALLB,
        _load_balancer,
        failure={"loadBalancer": {}},
        applies=_wants_address,
    ),
)
