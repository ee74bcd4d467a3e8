"""A receiver of webhooks for one machine: a service that takes part in the rotation of the secret it verifies with.

    vault       the secrets of the local vault, through the adapter that the app uses
    server      binds a verifier to a port and a state folder, and counts
    client      starts such a process, and asks it for its counts

It verifies with rotation/webhook_secrets.py, as services of ATP do. Left out on purpose: what the messages are about,
and memory of ids, so that a message sent again counts again.
"""
