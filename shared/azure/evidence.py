"""The evidence copy: append blobs of one container, under a policy that lets them grow and nothing else.

An append names the length that the file must have, so that a repeated one, by the SDK or by us, is refused and never
there twice. Listing blobs tells no block counts; they come with the properties of each.
"""

from collections.abc import Sequence
from typing import Final, override

from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.storage.blob import BlobPrefix, BlobType, ContainerClient, ContentSettings

from shared.azure.translate import translated
from shared.errors import Conflict, Integrity, Transient
from shared.ports import Evidence
from shared.values import EvidenceFile

MAX_APPEND_BYTES: Final = 4 * 1024 * 1024
"""Every version of the service takes an append of this size."""

_READ_BYTES: Final = 4 * 1024 * 1024  # asked for at once; less than the SDK would split over several requests
_CONTENT: Final = ContentSettings(content_type="application/jsonl")

# What may be wrong apart from what a port says,
# https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes
_NO_CONTAINER: Final = "ContainerNotFound"
_OF_ANOTHER_KIND: Final = "InvalidBlobType"
_FULL: Final = "BlockCountExceedsLimit"
_IMMUTABLE: Final = "BlobImmutableDueToPolicy"
_NO_OVERWRITING: Final = "UnauthorizedBlobOverwrite"  # to those who may add and not write


class AzureEvidence(Evidence):
    """The port `Evidence` on Azure Blob Storage."""

    def __init__(self, container: ContainerClient) -> None:
        self._container = container

    @override
    def files(self) -> Sequence[EvidenceFile]:
        with translated("listing the evidence copy"):
            names = sorted(self._container.list_blob_names())
            return [self._described(name) for name in names]

    @override
    def newest(self) -> EvidenceFile | None:
        with translated("looking for the newest file of the evidence copy"):
            name = self._last_below("")
            return None if name is None else self._described(name)

    @override
    def create(self, name: str) -> None:
        with translated("creating a file of the evidence copy"):
            try:
                self._container.get_blob_client(name).create_append_blob(
                    _CONTENT, match_condition=MatchConditions.IfMissing
                )
            except HttpResponseError as error:
                if _code(error) == _NO_OVERWRITING:
                    raise Conflict("creating a file of the evidence copy: it exists") from error
                raise

    @override
    def read(self, name: str, start: int, limit: int) -> bytes:
        blob = self._container.get_blob_client(name)
        parts: list[bytes] = []
        left = limit
        while left > 0:
            asked = min(left, _READ_BYTES)
            with translated("reading the evidence copy"):
                try:
                    part = blob.download_blob(start, asked).readall()
                except ResourceNotFoundError as error:
                    raise _gone(name, error) from error
                except HttpResponseError as error:
                    if error.status_code != 416:  # RFC 9110 section 15.5.17: the range begins behind the end
                        raise
                    part = b""
            parts.append(part)
            start, left = start + len(part), left - len(part)
            if len(part) < asked:
                break
        return b"".join(parts)

    @override
    def append(self, name: str, at: int, data: bytes) -> None:
        if not 1 <= len(data) <= MAX_APPEND_BYTES:
            raise ValueError(f"{len(data)} bytes are no block of the evidence copy")
        with translated("appending to the evidence copy"):
            try:
                self._container.get_blob_client(name).append_block(data, len(data), appendpos_condition=at)
            except ResourceNotFoundError as error:
                raise _gone(name, error) from error
            except HttpResponseError as error:
                code = _code(error)
                if code == _OF_ANOTHER_KIND:
                    raise Integrity("a file of the evidence copy is none that can be appended to", file=name) from error
                if code == _FULL:
                    raise RuntimeError("a file of the evidence copy has all the blocks that it can have") from error
                if code == _IMMUTABLE:  # a policy without protected append writes: to be repaired, nothing is lost
                    raise Transient("appending to the evidence copy: its policy forbids it", file=name) from error
                raise

    def _last_below(self, prefix: str) -> str | None:
        """The last name that begins so, found folder by folder: the whole listing of years would be long."""
        level = self._container.walk_blobs(prefix, delimiter="/")
        last = max(level, key=lambda found: found.name, default=None)
        if last is None:
            return None
        return self._last_below(last.name) if isinstance(last, BlobPrefix) else last.name

    def _described(self, name: str) -> EvidenceFile:
        try:
            found = self._container.get_blob_client(name).get_blob_properties()
        except ResourceNotFoundError as error:
            raise _gone(name, error) from error
        blocks = found.append_blob_committed_block_count
        if found.blob_type != BlobType.APPENDBLOB or blocks is None:
            raise Integrity("a file of the evidence copy is none that can be appended to", file=name)
        return EvidenceFile(name, found.size, int(blocks))


def _gone(name: str, error: ResourceNotFoundError) -> Exception:
    """What it means that a file is not there."""
    if _code(error) == _NO_CONTAINER:
        return Transient("the container of the evidence copy does not exist", status=404)
    return Integrity("a file of the evidence copy is gone", file=name)


def _code(error: HttpResponseError) -> str:
    """The service's own code, which the SDK gives as text or as a member of an enumeration."""
    code = getattr(error, "error_code", None)
    return str(getattr(code, "value", code))
