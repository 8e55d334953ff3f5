"""Which layers of a network make feature maps, and which layers read them.

One forward pass is recorded; the graph that autograd keeps of it is walked backwards from the
logits. So roles follow from what a layer does for the logits and not from its shape, and it works
for searched cells, whose modules are not called in the order in which they are listed.
"""

from nasplatform.stages.dataflow.layout import Layout
from nasplatform.stages.dataflow.points import FeaturePoint, feature_points
from nasplatform.stages.dataflow.readers import Reader

__all__ = ["FeaturePoint", "Layout", "Reader", "feature_points"]
