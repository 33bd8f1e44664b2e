"""What the operators of brokers, databases and identity write on their objects, and OLM, which brings operators."""

from __future__ import annotations

from .bed import Manifest
from .sequence import NO_STATUS, OUTDATED, STALE, TIME, Beside, Sequence, Step, condition, conditions


def services() -> tuple[Sequence, ...]:
    """All of them."""
    return (
        _kafka(),
        _keycloak(),
        _realm_import(),
        _failed_import(),
        _subscription(),
        _rabbitmq(),
        _postgres(),
        _dragonfly(),
    )


def _kafka() -> Sequence:
    """Strimzi 0.50: Ready or NotReady, each only ever True; the first status carries no observedGeneration."""
    plain = [{"name": "plain", "port": 9092, "type": "internal", "tls": False}]
    waited = "Exceeded timeout of 300000ms while waiting for Pods resource it-kafka-0"
    return Sequence(
        "a Kafka that times out on its way, and once more after it was ready",
        "kafkas.kafka.strimzi.io",
        {"kafka": {"version": "4.1.1", "listeners": plain}},
        (
            Step("NoStatus", NO_STATUS),
            Step(
                "Creating",
                "Kafka cluster is being deployed",
                status=conditions(condition("NotReady", True, "Creating", "Kafka cluster is being deployed")),
            ),
            Step(
                "InvalidResourceException",
                "No KafkaNodePools found for Kafka cluster it",
                status=conditions(
                    condition(
                        "NotReady", True, "InvalidResourceException", "No KafkaNodePools found for Kafka cluster it"
                    ),
                    observedGeneration=1,
                ),
            ),
            Step(
                "TimeoutException",
                waited,
                status=conditions(condition("NotReady", True, "TimeoutException", waited), observedGeneration=1),
            ),
            Step(status=conditions(condition("Ready", True), observedGeneration=1)),
            Step(
                "TimeoutException",
                waited,
                status=conditions(condition("NotReady", True, "TimeoutException", waited), observedGeneration=1),
            ),
            Step(status=conditions(condition("Ready", True), observedGeneration=1)),
            Step(
                "InvalidResourceException",
                "version 3.0.0 is not supported",
                phase="Failed",
                status=conditions(
                    condition("NotReady", True, "InvalidResourceException", "version 3.0.0 is not supported"),
                    observedGeneration=1,
                ),
            ),
            Step(status=conditions(condition("Ready", True), observedGeneration=1)),
        ),
    )


def _import(*, errors: str = "", started: bool = False, done: bool = False) -> Manifest:
    return conditions(
        condition("Done", done),
        condition("Started", started, "", "Import Job running" if started else ""),
        condition("HasErrors", bool(errors), "", errors),
    )


def _realm_import() -> Sequence:
    """Keycloak: HasErrors says that it waits for the server, until the job itself has failed."""
    return Sequence(
        "a realm import that has to wait for its Keycloak",
        "keycloakrealmimports.k8s.keycloak.org",
        {"keycloakCRName": "keycloak", "realm": {"realm": "home"}},
        (
            Step("NoStatus", NO_STATUS),
            Step("HasErrors", "No existing Deployment found", status=_import(errors="No existing Deployment found")),
            Step("HasErrors", "Deployment not yet ready", status=_import(errors="Deployment not yet ready")),
            Step("Started", "Import Job running", status=_import(started=True)),
            Step(status=_import(done=True)),
        ),
    )


def _failed_import() -> Sequence:
    return Sequence(
        "a realm import whose job has failed, which fails its layer at once",
        "keycloakrealmimports.k8s.keycloak.org",
        {"keycloakCRName": "keycloak", "realm": {"realm": "home"}},
        (
            Step("Started", "Import Job running", status=_import(started=True)),
            Step("HasErrors", "Import Job failed", phase="Failed", status=_import(errors="Import Job failed")),
            Step("Started", "Import Job running", status=_import(started=True)),
            Step(status=_import(done=True)),
        ),
    )


def _csv(version: str, phase: str, reason: str, message: str) -> Beside:
    return Beside(
        "clusterserviceversions.operators.coreos.com",
        f"it.v{version}",
        {"displayName": "it", "version": version, "install": {"strategy": "deployment"}},
        {"phase": phase, "reason": reason, "message": message, "lastUpdateTime": TIME},
    )


def _subscribed(state: str, *, current: str, installed: str = "") -> Manifest:
    pending = condition("InstallPlanPending", state == "UpgradePending", "Installing", "install-k7x2p is installing")
    healthy = condition("CatalogSourcesUnhealthy", False, "AllCatalogSourcesHealthy", "all catalog sources are healthy")
    status = conditions(healthy, pending, state=state, lastUpdated=TIME, currentCSV=f"it.v{current}")
    return {**status, "installedCSV": f"it.v{installed}"} if installed else status


def _subscription() -> Sequence:
    """OLM 0.40: AtLatestKnown only says that the CSV object exists."""
    wait = "waiting for install components to report healthy"
    return Sequence(
        "a Subscription",
        "subscriptions.operators.coreos.com",
        {"name": "it", "channel": "stable", "source": "catalog", "sourceNamespace": "olm"},
        (
            Step("NoStatus", NO_STATUS),
            Step("Installing", "install-k7x2p is installing", status=_subscribed("UpgradePending", current="1")),
            Step(
                "ClusterServiceVersionMissing",
                "it.v1: does not exist yet",
                status=_subscribed("AtLatestKnown", current="1", installed="1"),
            ),
            Step("Pending", "phase is Pending", beside=_csv("1", "Pending", "RequirementsUnknown", "verifying")),
            Step("Installing", wait, beside=_csv("1", "Installing", "InstallSucceeded", wait)),
            Step(
                "Failed",
                "Deployment it unhealthy",
                beside=_csv("1", "Failed", "ComponentUnhealthy", "Deployment it unhealthy"),
            ),
            Step("Installing", wait, beside=_csv("1", "Installing", "InstallSucceeded", wait)),
            Step(beside=_csv("1", "Succeeded", "InstallSucceeded", "install strategy completed with no errors")),
            Step(
                "Installing",
                "install-k7x2p is installing",
                status=_subscribed("UpgradePending", current="2", installed="1"),
            ),
            Step(
                "ClusterServiceVersionMissing",
                "it.v2: does not exist yet",
                status=_subscribed("AtLatestKnown", current="2", installed="2"),
            ),
            Step("Installing", wait, beside=_csv("2", "Installing", "InstallSucceeded", wait)),
            Step(beside=_csv("2", "Succeeded", "InstallSucceeded", "install strategy completed with no errors")),
        ),
    )


def _postgres() -> Sequence:
    """Percona's PostgreSQL operator 2.8."""
    volume = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    repository = {"name": "repo1", "volume": {"volumeClaimSpec": volume}}

    def status(state: str, ready: int) -> Manifest:
        nodes = {"size": 1, "ready": ready, "version": 17, "instances": [{"name": "db", "size": 1, "ready": ready}]}
        return {"state": state, "postgres": nodes, "pgbouncer": {"size": 1, "ready": ready}, "observedGeneration": 1}

    return Sequence(
        "a database that is still initialising",
        "perconapgclusters.pgv2.percona.com",
        {
            "postgresVersion": 17,
            "instances": [{"name": "db", "replicas": 1, "dataVolumeClaimSpec": volume}],
            "backups": {"pgbackrest": {"repos": [repository]}},
        },
        (
            Step("NoStatus", NO_STATUS),
            Step("Initializing", "state is initializing", status=status("initializing", 0)),
            Step(status=status("ready", 1)),
        ),
    )


def _keycloak() -> Sequence:
    """Keycloak 26: an error is told beside Ready, and so is a rolling update."""

    def status(*, ready: bool, errors: str = "", rolling: str = "", generation: int = 1) -> Manifest:
        return conditions(
            condition("Ready", ready, "", "" if ready else "Waiting for more replicas", observedGeneration=generation),
            condition("HasErrors", bool(errors), "", errors, observedGeneration=generation),
            condition("RollingUpdate", bool(rolling), "", rolling, observedGeneration=generation),
            instances=int(ready),
            observedGeneration=generation,
        )

    rolling = status(ready=True, rolling="Rolling out Keycloak update", generation=2)
    return Sequence(
        "a Keycloak that waits for its database, and is then rolled",
        "keycloaks.k8s.keycloak.org",
        {"instances": 1, "db": {"vendor": "postgres"}},
        (
            Step("NoStatus", NO_STATUS),
            Step(
                "HasErrors", "Secret db-user not found", status=status(ready=False, errors="Secret db-user not found")
            ),
            Step("Ready", "Waiting for more replicas", status=status(ready=False)),
            Step(status=status(ready=True)),
            Step(STALE, "generation 2 is not observed yet", spec={"instances": 1, "db": {"vendor": "mariadb"}}),
            Step("RollingUpdate", "Rolling out Keycloak update", status=rolling),
            Step(status=status(ready=True, generation=2)),
        ),
    )


def _rabbitmq() -> Sequence:
    """RabbitMQ cluster operator 2: observedGeneration is the last generation that was reconciled without an error."""

    def status(*, replicas: bool, reconciled: bool = True, reason: str = "Success", generation: int = 1) -> Manifest:
        told = "" if reconciled else "Cluster Scale down not supported"
        return conditions(
            condition("AllReplicasReady", replicas, "AllPodsAreReady" if replicas else "NotAllPodsReady", ""),
            condition("ClusterAvailable", True, "AtLeastOneEndpointAvailable", ""),
            condition("NoWarnings", True, "NoWarnings", ""),
            condition("ReconcileSuccess", reconciled, reason, told),
            observedGeneration=generation,
        )

    return Sequence(
        "a RabbitmqCluster that is asked for what it cannot do",
        "rabbitmqclusters.rabbitmq.com",
        {"replicas": 3},
        (
            Step("NoStatus", NO_STATUS),
            Step("NotAllPodsReady", "AllReplicasReady is False", status=status(replicas=False)),
            Step(status=status(replicas=True)),
            Step(
                "UnsupportedOperation",
                "Cluster Scale down not supported",
                spec={"replicas": 1},
                status=status(replicas=True, reconciled=False, reason="UnsupportedOperation"),
            ),
            Step(STALE, "generation 3 is not observed yet", spec={"replicas": 5}, status=status(replicas=True)),
            Step("NotAllPodsReady", "AllReplicasReady is False", status=status(replicas=False, generation=3)),
            Step(status=status(replicas=True, generation=3)),
        ),
    )


def _dragonfly() -> Sequence:
    """Dragonfly operator 1.4: phases, no generation; a rolling update beside the phase."""

    def status(phase: str, *, rolling: bool = False) -> Manifest:
        return {"phase": phase, "isRollingUpdate": rolling}

    return Sequence(
        "a Dragonfly that says ready while it is rolled",
        "dragonflies.dragonflydb.io",
        {"replicas": 2, "image": "dragonfly:1"},
        (
            Step("NoStatus", NO_STATUS),
            Step("Phase", "phase is resources-created", status=status("resources-created")),
            Step("Phase", "phase is configuring-replication", status=status("configuring-replication")),
            Step(status=status("ready")),
            Step("StatusOutdated", OUTDATED, spec={"replicas": 2, "image": "dragonfly:2"}),
            Step("InProgress", "a rolling update is under way", status=status("ready", rolling=True)),
            Step(status=status("ready")),
        ),
    )
