"""Structured pruning of any network: whole channels and units, taken out for good.

    module ──trace──> ChannelGraph ──importance──> scores ──selection──> groups ──surgery──> module

``graph``       who is coupled with whom, on which axis, and what is pinned and why
``tracer``      hands couplings on from tensor to tensor while the network runs once; ``rules``
``contractions`` products of computed matrices, of which attention is made; ``derived`` tables of
                parameters that they meet; ``arrangements`` numbers in modules that count heads
``separation``  gives torch's attention layers of its own for queries, keys and values
``tracing``     the whole: trace, then try every coupling out and pin what does not hold
``importance``  how much a channel counts: l1, fpgm, bn_scale, taylor, random
``selection``   budgets and rates: which groups go
``surgery``     cuts parameters, and does it again from a description
``equality``    what a cut network must compute
"""
