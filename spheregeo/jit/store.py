"""Compiled code on disk, one file for each function and signature; importing this imports numba.

A file is the SHA-256 of the rest, and the rest a pickle of the signature and of numba's own form of compiled code. Readers and
other writers see all of a file or nothing. numba's index of signatures, in which two processes that compile at once can
give each other's code the same name, has no counterpart here. A file that is cut short or altered counts as none, and is
written again.
"""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

from numba import config
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from spheregeo.files import write_bytes
from spheregeo.jit.folders import cache_folder, remove_old, touch, warn_once
from spheregeo.jit.progress import progress
from spheregeo.jit.sources import key_of

# numba's settings that change the code it makes; the processor is in the key by itself
_SETTINGS = (
    "OPT",
    "BOUNDSCHECK",
    "DEBUGINFO_DEFAULT",
    "DISABLE_INTEL_SVML",
    "LOOP_VECTORIZE",
    "SLP_VECTORIZE",
)


class Store(_Cache):  # type: ignore[misc]
    """Cache of one function's compiled code, with the methods by which numba's dispatchers ask for it."""

    def __init__(self, function: Any) -> None:
        self._function = function
        self._enabled = True
        try:
            self._version = key_of(function.__module__, function.__code__.co_filename)
        except (OSError, SyntaxError):  # no sources: nothing tells when code is stale
            self._enabled = False

    @property
    def cache_path(self) -> str | None:
        """The folder of this version of the function's sources, or None where nothing is kept."""
        folder = self._folder() if self._enabled else None
        return None if folder is None else str(folder)

    def load_overload(self, sig: Any, target_context: Any) -> CompileResult | None:
        """The compiled function for a signature, or None if there is none that can be used."""
        found = self._load(sig, target_context)
        if found is None:
            progress.begin(self._function.__qualname__, self.cache_path)
        return found

    def _load(self, sig: Any, target_context: Any) -> CompileResult | None:
        target_context.refresh()
        folder = self._folder() if self._enabled else None
        if folder is None:
            return None
        try:
            data = (folder / self._file(sig, target_context.codegen())).read_bytes()
            if hashlib.sha256(data[32:]).digest() != data[:32]:
                return None
            kept, payload = pickle.loads(data[32:])
            if kept != sig:
                return None
            found = CompileResult._rebuild(target_context, *payload)
        except Exception:  # whatever is wrong with the file, compiling is right
            return None
        touch(folder)
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled function; a warning, once for all functions, if that fails."""
        progress.end(self._function.__qualname__, self.cache_path)
        folder = self._folder() if self._enabled else None
        dynamic = data.library.has_dynamic_globals or any(not part.can_cache for part in data.lifted)
        if folder is None or dynamic:
            return
        content = dumps((sig, data._reduce()))
        new = not folder.is_dir()
        try:
            write_bytes(folder / self._file(sig, data.codegen), hashlib.sha256(content).digest() + content)
        except OSError as error:
            warn_once(f"compiled code cannot be kept ({error})")
            self._enabled = False
            return
        if new:
            remove_old(folder)

    def enable(self) -> None:
        """Use the cache again."""
        self._enabled = hasattr(self, "_version")

    def disable(self) -> None:
        """Neither read nor write."""
        self._enabled = False

    def flush(self) -> None:
        """Remove the function's files."""
        folder = self._folder() if self._enabled else None
        for file in folder.glob(f"{self._function.__qualname__}-*") if folder else ():
            file.unlink(missing_ok=True)

    def _folder(self) -> Path | None:
        root = cache_folder()
        return None if root is None else root / f"{self._function.__module__}-{self._version[:16]}"

    def _file(self, sig: Any, codegen: Any) -> str:
        settings = tuple(repr(getattr(config, name, None)) for name in _SETTINGS)
        key = repr((sig, codegen.magic_tuple(), settings, self._function.__code__.co_firstlineno))
        name = "".join(c if c.isalnum() else "_" for c in self._function.__qualname__)
        return f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:24]}"
