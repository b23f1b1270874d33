# %% [markdown]
# (multiverse)=
# # What the outcome depends on
#
# The paper leaves much open ({ref}`choices`), and whoever repeats it must decide: how pixels are scaled, which
# statistics batch norm uses, what lies outside an image. We decided once. Had we decided otherwise, would the outcome be
# the same? Most of these choices can be made anew without training a network again, because they concern what a
# network is shown and what is measured of it. So this chapter makes them, one at a time and then together, a
# *multiverse* {cite:p}`steegen2016`, and asks two things. Which choice brings the curves of untrained networks nearest to
# the published ones? And which of the claims survive which choice?
#
# How networks are trained is another matter; it is not varied here.

# %% tags=["parameters"]
mode = "full"

# %% tags=["hide-input"]
import pandas as pd
from myst_nb import glue

from deformlib.evidence import collect
from deformlib.figures import specification_curve
from deformlib.outcomes import changes, difference, in_words, options, order_of_arms, robustness, survival, values

pd.set_option("display.max_colwidth", None)
made = [collect("cifar10", mode)] if mode == "quick" else []  # the networks that are measured here
networks, inputs = collect("multiverse-cifar10", mode), collect("multiverse-input", mode)

# %% [markdown]
# ## The choices
#
# *Sources inside the image* means that no control point looks beyond its edge, as the arrows of the paper's Figure 2
# suggest. A grid *half a cell inside* does not reach the edge. Where control points *move the image*, what is at
# a control point goes where its arrow ends: the inverse of the backward map, found by iteration. Batch norm may use
# the statistics of the very batch that is measured, clean and deformed images apart or together. Sonnet, the
# library that fits the paper's initialization, does so unless told otherwise, with an epsilon of 0.001. (It also has no
# scale. Before training a scale is 1; one that a network has learned is part of it, and stays.) Displacements
# are multiples of the stated 10 px and 2 px: x 0.875 is what 10 px would be if images were deformed at 256 px and then
# shrunk to 224, x 0.75 at 299, x 0.6 at the usual 375 px of a photograph's short side, x 0.5 if 10 px were the width of
# the range and not its half.

# %% tags=["hide-input"]
options(networks, inputs)

# %% [markdown]
# ## One at a time
#
# Each row changes one choice. *Factor* is what this does to sensitivity, the geometric mean over arms, seeds and layers,
# before and after training. *Off 3c* is the mean over arms and layers of the distance between our curves and those of the
# paper's Figure 3c, as in {ref}`the verdict <verdict>`; the nearest comes first. What to look for: whether any row is
# much nearer than the book's own.

# %% tags=["hide-input"]
table = changes(networks, "3c")
table.set_axis(pd.MultiIndex.from_tuples([in_words(*key) for key in table.index], names=["choice", "option"])).round(3)

# %% [markdown]
# RESULT-ALONE
#
# ## Crossed
#
# Choices may matter together where none does alone. {numref}`fig-9-distance` crosses those that move the curves and those
# that cost nothing, a *specification curve* {cite:p}`simonsohn2020`: every combination is one column, sorted by how near
# it comes to Figure 3c. Above is the distance, below which options the combination has. An option that matters has its
# marks on one side.

# %% tags=["hide-input"] mystnb={"image": {"alt": "A rising curve of points above a matrix of marks, one row for each option of each choice."}, "figure": {"name": "fig-9-distance", "caption": "How far the untrained networks are from the published curves of Figure 3c under every combination of the crossed choices. The large point is the book's combination. Records: {glue:text}`fig-9-note`."}}
before = values(networks, "crossed").query("when == 'before'")
crossed = list(before.columns[: list(before.columns).index("arm")])
distance, book = difference(before, "3c", crossed), before.iloc[0][crossed].to_dict()
glue("fig-9-note", networks.note, display=False)
specification_curve(distance, "off Figure 3c", in_words, marked={"the book's": book})
