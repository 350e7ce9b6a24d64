"""Reads what is new in one VM's log file, through rotation, replacement and truncation.

Advances only by `accept`: what was looked at and not accepted is found again, the file is the buffer.
"""

from dataclasses import dataclass

from msgspec.structs import replace

from pvc.plugins.consolelog.decide.bounds import Limits, texts
from pvc.plugins.consolelog.decide.tail import FINGER, Begin, Cut, Drained, Read, Resume, checksum, look, successor
from pvc.plugins.consolelog.files import LogFile, LogFiles
from pvc.plugins.consolelog.ring import Content, FileMark, Gap, Loss

MOST_FILES = 16
"""Files that one look goes through; more can only come from files that change while they are looked at."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What is new, and how far the file is read with it."""

    contents: tuple[Content, ...]
    gaps: int
    """How many of the contents, at the start, tell of losses noticed before the output was read."""
    mark: FileMark | None
    size: int
    """Bytes of output in it."""


class Tail:
    """One VM's log file on this node."""

    def __init__(self, files: LogFiles, path: str, run: str, limits: Limits) -> None:
        self.path = path
        self._files = files
        self._run = run
        self.limits = limits
        """May be changed: they only say in what portions is read."""
        self._file: LogFile | None = None
        self._position = 0
        self._checksum = checksum(b"")
        self._gaps: list[Content] = []
        self._over = False
        self._distrusted = False
        self._todo: tuple[Resume, bool] | None = None
        """A place that could not be taken yet, and whether the VM was gone already."""

    def hold(self) -> None:
        """Open the file if it is there already, so that it can still be read should it be rotated before `begin`.

        Raises Unfollowable.
        """
        if self._file is None:
            self._open()

    def begin(self, how: Begin | Resume, *, ending: bool = False) -> None:
        """Take the place to start from. Raises Unfollowable: then `look` takes it before anything else.

        `ending`: the VM is gone already; if the recorded file cannot be found there is nothing to read.
        """
        if isinstance(how, Begin):
            self._lose(how.lost, ending)
            return
        self._todo = (how, ending)
        mark = how.mark
        path = next((path for path, inode in self._files.rotated(self.path) if inode == mark.inode), None)
        file = None if path is None else self._files.open(path)
        self._todo = None
        if file is None or file.inode != mark.inode:
            if file is not None:
                file.close()
            self._lose(True, ending)
            return
        self.close()
        self._file, self._position, self._checksum = file, mark.position, mark.tail

    def distrust(self) -> None:
        """The VM has been started here again, which may have cut the file: read on only what can be recognised."""
        self._distrusted = True
        if self._position < FINGER and not self._over:
            self._lose(True, True)

    def look(self, allowance: int, *, ending: bool) -> Piece | None:
        """What is new, at most `allowance` bytes of output; None: nothing. Raises Unfollowable.

        `ending`: the VM is gone; a file begun anew belongs to its next run and is left alone.
        """
        if self._todo is not None and not self._over:
            how, ended = self._todo
            self.begin(how, ending=ended)
        for _ in range(MOST_FILES):
            if self._over or (self._file is None and not self._open()):
                break
            assert self._file is not None
            # Asked before the size: what is written to this file later than that is not taken for the end of it.
            named = self._files.inode(self.path)
            what = look(self._position, self._file.size(), allowance, self.limits.batch)
            if isinstance(what, Read):
                piece = self._read(self._file, what)
                if piece is not None:
                    return piece
                what = Cut()
            elif isinstance(what, Drained) and not self._recognises(self._file):
                what = Cut()  # cut, and grown to the very size that it had
            if isinstance(what, Cut):
                self._begin_anew(ending)
            elif named == self._file.inode or not self._go_on(self._file, named is not None, ending):
                break
        return self._told()

    def give_up(self) -> Piece | None:
        """What there is to say instead of the rest, which is read no more."""
        self._lose(True, True)
        return self._told()

    @property
    def mark(self) -> FileMark | None:
        """How far the file is read; None: there is no file yet."""
        if self._todo is not None:
            return replace(self._todo[0].mark, run=self._run)
        return self._mark_at(self._position, self._checksum)

    def accept(self, piece: Piece) -> None:
        """The piece is published: go on behind it."""
        del self._gaps[: piece.gaps]
        if piece.mark is not None:
            self._position, self._checksum = piece.mark.position, piece.mark.tail

    def close(self) -> None:
        """Give the file back."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> bool:
        self._file = self._files.open(self.path)
        self._position, self._checksum = 0, checksum(b"")
        return self._file is not None

    def _read(self, file: LogFile, what: Read) -> Piece | None:
        """The piece; None if the file is not the one that was read so far, although it is long enough."""
        known = min(FINGER, self._position)
        if what.skip:
            before, data = file.read(self._position - known, known), file.read(what.position, what.count)
        else:
            both = file.read(self._position - known, known + what.count)
            before, data = both[:known], both[known:]
        if checksum(before) != self._checksum or not data:
            return None
        skipped: list[Content] = [Gap(what.skip, Loss.RATE)] if what.skip else []
        behind = data if len(data) >= FINGER or what.skip else before + data
        return Piece(
            (*self._gaps, *skipped, *texts(data, self.limits)),
            len(self._gaps),
            self._mark_at(what.position + len(data), checksum(behind)),
            len(data),
        )

    def _recognises(self, file: LogFile) -> bool:
        known = min(FINGER, self._position)
        return checksum(file.read(self._position - known, known)) == self._checksum

    def _told(self) -> Piece | None:
        return Piece(tuple(self._gaps), len(self._gaps), self.mark, 0) if self._gaps else None

    def _lose(self, lost: bool, ending: bool) -> None:
        if lost:
            self._gaps.append(Gap(None, Loss.FILE))
        self._over = ending

    def _begin_anew(self, ending: bool) -> None:
        self._lose(True, ending)
        self._position, self._checksum = 0, checksum(b"")

    def _go_on(self, drained: LogFile, replaced: bool, ending: bool) -> bool:
        """Move to the file after the drained one; False if there is none to move to.

        `replaced`: another file has its path, so if it was not rotated, that one is its successor.
        """
        following = successor(self._files.rotated(self.path), drained.inode)
        if following is None or not (following.chained or replaced):
            return False
        if (ending and not following.chained) or (self._distrusted and following.path == self.path):
            self._lose(True, True)
            return False
        file = self._files.open(following.path)
        if file is None or file.inode != following.inode:  # renamed once more at this moment: look again
            if file is not None:
                file.close()
            return True
        drained.close()
        self._file = file
        self._position, self._checksum = 0, checksum(b"")
        if following.lost or self._distrusted:  # the new start may have cut it before it was rotated
            self._gaps.append(Gap(None, Loss.FILE))
        return True

    def _mark_at(self, position: int, tail: int) -> FileMark | None:
        return None if self._file is None else FileMark(self._file.inode, position, tail, self._run)
