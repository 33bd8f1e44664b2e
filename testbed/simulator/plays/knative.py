"""Knative's operator: KnativeServing and KnativeEventing."""

from __future__ import annotations

from testbed.simulator import builtin
from testbed.simulator.conditions import Status, condition
from testbed.simulator.objects import Obj, generation
from testbed.simulator.operators import KNATIVE
from testbed.simulator.play import Play, Run, steps
from testbed.simulator.scene import Scene

_ACCOUNTS = {
    "KnativeServing": ("controller", "activator"),
    "KnativeEventing": ("eventing-controller", "eventing-webhook", "pingsource-mt-adapter"),
}


def _status(obj: Obj, *, deployed: bool) -> Status:
    waiting = "" if deployed else "Waiting on deployments"
    reason = "DeploymentsAvailable" if deployed else "NotReady"
    return {
        "observedGeneration": generation(obj),
        "version": "1.21.0",
        "conditions": [
            condition("DependenciesInstalled"),
            condition("DeploymentsAvailable", deployed, reason, waiting),
            condition("InstallSucceeded"),
            condition("Ready", deployed, "Ready" if deployed else "NotReady", waiting),
            condition("VersionMigrationEligible"),
        ],
    }


def _play() -> Run:
    finish = steps(lambda obj: _status(obj, deployed=False), lambda obj: _status(obj, deployed=True))

    async def run(scene: Scene) -> None:
        for account in _ACCOUNTS[scene.resource.kind]:
            body = {"metadata": {"namespace": scene.namespace, "name": account}}
            await scene.ensure(builtin.SERVICE_ACCOUNTS, body)
        await finish(scene)

    return run


_failed = {
    "conditions": [condition("InstallSucceeded", False, "Error"), condition("Ready", False, "Error", "played broken")]
}

PLAYS = (
    Play("knativeservings.operator.knative.dev", KNATIVE, _play(), failure=_failed),
    Play("knativeeventings.operator.knative.dev", KNATIVE, _play(), failure=_failed),
)
