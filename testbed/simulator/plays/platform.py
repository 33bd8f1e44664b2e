"""Build and delivery: HCP Terraform agents, Camel K, Kaoto, GitHub runners, KEDA, the vertical autoscaler."""

from __future__ import annotations

import zlib

from testbed.simulator.conditions import Status, condition
from testbed.simulator.objects import Obj, annotation, generation, get
from testbed.simulator.operators import ACTIONS_RUNNER, CAMEL_K, KAOTO, KEDA, TERRAFORM, VPA
from testbed.simulator.play import Play, steps
from testbed.simulator.scene import Scene


def _number(obj: Obj) -> int:
    return zlib.crc32(f"{obj['metadata'].get('namespace')}/{obj['metadata']['name']}".encode())


def _agent_pool(obj: Obj) -> Status:
    tokens = get(obj, "spec", "agentTokens") or []
    return {
        "agentPoolID": f"apool-{_number(obj):08x}",
        "agentTokens": [{"name": entry["name"], "id": f"at-{_number(obj):08x}"} for entry in tokens],
        "agentDeploymentName": f"agents-of-{obj['metadata']['name']}",
        "observedGeneration": generation(obj),
    }


def _platform(obj: Obj) -> Status:
    return {"phase": "Ready", "observedGeneration": generation(obj), "conditions": [condition("Created")]}


async def _kaoto_service(scene: Scene) -> None:
    await scene.service(scene.name, 8080, selector={"app": "kaoto"})


async def _runners(scene: Scene) -> None:
    """This version's status says nothing: the annotation is the proof of registration."""
    if not annotation(scene.obj, "runner-scale-set-id"):
        await scene.wait()
        if scene.mode not in ("stuck", "failed"):
            await scene.annotate({"runner-scale-set-id": str(_number(scene.obj) % 1000)})
    await scene.healthy({"currentRunners": 0, "pendingEphemeralRunners": 0, "runningEphemeralRunners": 0})


def _scaled(*, ready: bool | None) -> Status:
    return {
        "conditions": [
            condition("Ready", ready, "ScaledObjectReady" if ready else "Unknown"),
            condition("Active", False if ready else None, "ScalerNotActive"),
            condition("Fallback", False if ready else None, "NoFallbackFound"),
            condition("Paused", False, "Unpaused"),
        ]
    }


_RECOMMENDED = {"conditions": [condition("RecommendationProvided", False), condition("NoPodsMatched", True)]}

PLAYS = (
    Play(
        "agentpools.app.terraform.io",
        TERRAFORM,
        steps(_agent_pool),
        failure={"agentPoolID": "", "observedGeneration": 0},
    ),
    Play(
        "integrationplatforms.camel.apache.org",
        CAMEL_K,
        steps({"phase": "Creating"}, _platform),
        failure={"phase": "Error"},
    ),
    Play(
        "kaotoes.designer.kaoto.io", KAOTO, steps({"phase": "Ready"}, then=_kaoto_service), failure={"phase": "Error"}
    ),
    Play("autoscalingrunnersets.actions.github.com", ACTIONS_RUNNER, _runners, failure={"failedEphemeralRunners": 1}),
    Play("scaledobjects.keda.sh", KEDA, steps(_scaled(ready=None), _scaled(ready=True)), failure=_scaled(ready=False)),
    Play("scaledjobs.keda.sh", KEDA, steps(_scaled(ready=None), _scaled(ready=True)), failure=_scaled(ready=False)),
    Play(
        "verticalpodautoscalers.autoscaling.k8s.io",
        VPA,
        steps(_RECOMMENDED),
        failure={"conditions": [condition("ConfigUnsupported", True)]},
        informational=True,
    ),
)
