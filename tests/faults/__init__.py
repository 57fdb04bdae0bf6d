"""The program as real processes under faults: killed, stopped, doubled, with PostHog or the warehouse failing.

`make faults` runs every case against the stand-in and a Postgres of its own, and compares the stand-in with the table
row by row once the program is at rest.
"""
