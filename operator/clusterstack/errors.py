"""Every error that ClusterStack raises on purpose.

    ClusterStackError
    ├── SpecError            the user's input is wrong: a person must change it
    ├── SourceError          a source cannot be fetched or read
    │   └── ChartError       a chart or its repository
    ├── RenderError          a build, template or decryption failed
    │   └── LookupFailed     … because of what a chart read, or failed to find, in the cluster
    ├── ApiError             the API server answered with a failure
    └── TransportError       no answer: connection, time-out, TLS

An error carries what a condition needs: `reason` (CamelCase), whether trying again without a change can help, and a
hint, the next step for a person. Messages never hold the values of Secrets.
"""

from __future__ import annotations


class ClusterStackError(Exception):
    """Base of the tree; `str(error)` is the message for people."""

    reason = "Error"
    retryable = True

    def __init__(
        self, message: str, *, reason: str | None = None, hint: str = "", retryable: bool | None = None
    ) -> None:
        super().__init__(message)
        self.hint = hint
        if reason is not None:
            self.reason = reason
        if retryable is not None:
            self.retryable = retryable

    @property
    def explained(self) -> str:
        """The message with its hint, for where there is one line for both."""
        return f"{self} ({self.hint})" if self.hint else str(self)


class SpecError(ClusterStackError):
    """The user's input is wrong; only a change of it can help."""

    reason = "InvalidSpec"
    retryable = False


class SourceError(ClusterStackError):
    """A source cannot be fetched or read."""

    reason = "FetchFailed"


class ChartError(SourceError):
    """A chart cannot be found, fetched or read."""

    reason = "ChartNotFound"


class RenderError(ClusterStackError):
    """A kustomize build, a chart's template or a decryption failed."""

    reason = "BuildFailed"
    retryable = False


class LookupFailed(RenderError):  # noqa: N818 - reads as what happened
    """A render failed on what the chart looked up in the cluster; `keys` are the objects it asked for."""

    reason = "LookupFailed"
    retryable = True

    def __init__(self, message: str, *, keys: tuple[tuple[str, str, str, str], ...]) -> None:
        super().__init__(message)
        self.keys = keys


class ApiError(ClusterStackError):
    """The API server's failure; `status` is the HTTP code, `reason` the Status object's reason."""

    reason = "ApiError"

    def __init__(
        self,
        message: str,
        *,
        status: int,
        reason: str = "ApiError",
        retry_after: float = 0.0,
        causes: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message, reason=reason, retryable=status == 429 or status >= 500)
        self.status = status
        self.retry_after = retry_after
        self.causes = causes


class TransportError(ClusterStackError):
    """No answer came: whether a write happened is unknown until it is read back."""

    reason = "Unreachable"
