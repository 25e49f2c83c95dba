"""Whether answers may be relied on."""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["Trust"]


@dataclass(frozen=True, slots=True)
class Trust:
    """Why answers are flagged, if they are: a verdict, or a suspicion not looked at yet."""

    is_marked: bool = False
    """A trouble goes on, or a repair could not be proven."""
    suspicions: int = 0
    """Incidents, ever, that a worker has to look at before answers are trusted again."""
    cleared: int = 0
    """How many of these have been looked at; what was wrong then is marked by now."""

    @property
    def holds(self) -> bool:
        """Whether answers may be relied on."""
        return not self.is_marked and self.cleared == self.suspicions

    def marked(self) -> Trust:
        """Flag every answer from now on."""
        return replace(self, is_marked=True)

    def restored(self) -> Trust:
        """Flag no more: the model is proven to be what it was, or the trouble is over."""
        return replace(self, is_marked=False)

    def suspecting(self) -> Trust:
        """Flag every answer until a look has ended that begins after this."""
        return replace(self, suspicions=self.suspicions + 1)

    def looked(self, suspicions: int) -> Trust:
        """Take note that the first so many suspicions have been looked at."""
        return replace(self, cleared=max(self.cleared, suspicions))
