"""Trivium's broker: gives people desktops under VDI, IDV and VOI.

Empty of imports on purpose: agents carry this package for ``broker.wire`` alone
and must not pull in the server's libraries.
"""
