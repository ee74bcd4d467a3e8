"""Events of Key Vault as Event Grid delivers them, about objects of a local stack: its vault sends none by itself."""

from urllib.parse import urlsplit

from shared.clock import Clock

_PREFIX = "Microsoft.KeyVault."


def event(happening: str, object_id: str, clock: Clock) -> dict[str, object]:
    """An event in the Event Grid schema about the version with that id; `happening` is like "KeyNewVersionCreated".

    Source: https://learn.microsoft.com/azure/event-grid/event-schema-key-vault
    """
    parts = urlsplit(object_id)
    collection, name, version = parts.path.strip("/").split("/")
    vault = (parts.hostname or "").partition(".")[0]
    return {
        "id": f"{happening}-{version}",
        "topic": f"/subscriptions/local/resourceGroups/local/providers/Microsoft.KeyVault/vaults/{vault}",
        "subject": name,
        "eventType": f"{_PREFIX}{happening}",
        "eventTime": f"{clock():%Y-%m-%dT%H:%M:%S.%f}0Z",
        "data": {
            "Id": object_id,
            "VaultName": vault,
            "ObjectType": collection.removesuffix("s").capitalize(),
            "ObjectName": name,
            "Version": version,
            "NBF": None,
            "EXP": None,
        },
        "dataVersion": "1",
        "metadataVersion": "1",
    }
