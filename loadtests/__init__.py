"""The campaign harness: plans arrivals, drives the broker over HTTP, and reports with evidence.

It knows the product by its public API alone and imports neither `broker` nor `agents`. Nothing
here imports Locust except the files that run inside its process (locustfile, schedule, person,
client, display, ceiling), because importing Locust patches the whole process for gevent.

Reading order: cast (who may arrive) → plan (who arrives when) → locustfile → schedule → person
(one arrival's journey) → records (what was seen) → collect (the broker's own records) → analyse
→ verdict → report.
"""
