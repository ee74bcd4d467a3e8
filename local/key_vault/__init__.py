"""A Key Vault for one machine: keys, secrets and certificates, as the real Azure SDKs speak of them, over TLS.

One process is one vault: one port, one state folder, one clock. It exists so that the application can be run, killed
and load-tested against something that behaves like Key Vault where this matters to a rotation: versions, attributes,
soft delete, paging, weighted throttling, and answers that get lost after the operation took effect.

A request goes through the files in this order:

    app                 the route table, and the seven steps of one request
    faults, throttle    what can go wrong on purpose, and the vault's quotas; both are pure
    key_operations, secret_operations, certificate_operations, inventory
                        what the operations mean; inventory is what all kinds have in common
    versions, rotation_policy, certificate_policy, key_material, algorithms
                        the values behind them and their rules; no I/O
    store               every change is on disk before it is answered
    admin               the `/_local/` interface with which tests bring faults about and count operations

`server` binds all that to a port; `client` starts such a process and talks to its admin interface.

Left out on purpose: issuers of certificates other than `Self`, their import and contacts, backup and restore, secure
key release, access policies (any bearer token may do anything), automatic rotation by policy (policies are kept and
give a rotated version its expiry, nothing fires), and events.

Source of the protocol: https://learn.microsoft.com/rest/api/keyvault/
"""
