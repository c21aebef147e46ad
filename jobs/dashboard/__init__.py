"""What people see: small reads of everything that stands in the tables. Nothing in here writes.

Every query is limited to two seconds and reads a bounded number of rows, however much history is kept: lists go by
keys and never by offsets, counts stop at a limit, and what happened over time comes from `jobs_stat`.

    look       the one way to the database      listing    lists by state, filtered and paged
    counts     how many jobs are where          story      one job, from written to its end
    trends     what happened over time          failures   failed attempts, grouped
    state      queues, workers, and what needs a person
"""
