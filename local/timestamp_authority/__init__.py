"""A time-stamp authority for one machine: RFC 3161 over HTTP, with real signatures and the clock of the local stack.

    authority   keys, certificates, and the answer to one request; asn1crypto writes it, so that what the app reads was
                not written by the parser that the app reads with
    faults      what can go wrong on purpose
    server      binds them to a port and to one state folder
    client      starts such a process, and talks to its admin interface

Left out on purpose: policies and extensions that a client may ask for (they are refused), revocation, accuracy of an
attested clock. The time is the stack's, and may be moved.
"""
