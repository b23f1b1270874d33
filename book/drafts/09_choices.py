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
# How networks are trained is another matter: each way costs a training. The last section varies it, with fewer networks.

# %% tags=["parameters"]
mode = "full"

# %% tags=["hide-input"]
import pandas as pd
from myst_nb import glue

from deformlib.evidence import collect
from deformlib.figures import specification_curve
from deformlib.outcomes import changes, difference, in_words, of_recipes, options, order_of_arms, robustness, survival, values

pd.set_option("display.max_colwidth", None)
made = [collect("cifar10", mode)] if mode == "quick" else []  # the networks that are measured here
networks, inputs, recipes = (collect(name, mode) for name in ("multiverse-cifar10", "multiverse-input", "cifar10-recipes"))

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

# %% [markdown]
# The combinations nearest to the figure:

# %% tags=["hide-input"]
nearest = distance.sort_values(kind="stable").head(5).round(3).reset_index(name="off 3c")
nearest.assign(**{name: [in_words(name, option)[1] for option in nearest[name]] for name in crossed}).rename(columns=lambda name: in_words(name, book[name])[0] if name in book else name)

# %% [markdown]
# RESULT-CROSSED
#
# ## Which claims survive
#
# The first claim is that pooling stabilizes before any training. {numref}`fig-9-order` shows, for every combination, the
# worst of the six comparisons between a pooled and an unpooled arm: how sensitive the last layer of the pooled one is,
# as a share of the other's. Below the line the claim holds by our threshold; above 1 some pooled arm is the more
# sensitive.

# %% tags=["hide-input"] mystnb={"image": {"alt": "A rising curve of points, a dashed line at 0.8, and a matrix of marks below."}, "figure": {"name": "fig-9-order", "caption": "Sensitivity of the last layer of untrained networks, pooled over unpooled arm, the least favourable pair of arms, under every combination of the crossed choices. Dashed: the threshold of claim 1. Records: {glue:text}`fig-9-note`."}}
order = order_of_arms(networks)
specification_curve(order, "pooled over unpooled", in_words, ("threshold", 0.8), {"the book's": book})

# %% [markdown]
# RESULT-ORDER
#
# Claims 2 to 5 are about what training does (see {ref}`the verdict <verdict>`): 2, sensitivity changes; 3, early layers
# become more sensitive; 4, without pooling the last layer becomes stabler; 5, the arms converge. The table judges the
# same networks under each choice by the same rules, and says how many of a claim's parts (an arm, a pair of arms, a
# baseline) point its way, so *In part (7/10)* means seven of ten. Parts that only ImageNet could decide are not here,
# and with so few seeds *In part* is the best that can be had; what to look for is a row that differs from the first.

# %% tags=["hide-input"]
survival(networks)

# %% [markdown]
# And crossed: the share of parts that point a claim's way, mean over all combinations with an option.

# %% tags=["hide-input"]
robustness(networks).round(2)

# %% [markdown]
# RESULT-CLAIMS
#
# ## Why is ImageNet's layer 0 so stable in the paper?
#
# Layer 0 is the image, so nothing about networks can explain what is found there: only photographs, their deformation
# and the measure. The paper's Figure 3a begins at 0.155. First, one choice at a time.

# %% tags=["hide-input"]
images = values(inputs)
photographs = images[images["arm"] == images["arm"].iloc[0]].set_index(["choice", "option"])["value"]
photographs.set_axis(pd.MultiIndex.from_tuples([in_words(*key) for key in photographs.index], names=["choice", "option"])).round(3).to_frame("layer 0")

# %% [markdown]
# RESULT-INPUT
#
# One deformation for all images is one draw, so here are sixteen (each with its own 32 photographs), and beside them as
# many draws with a deformation for each image:

# %% tags=["hide-input"]
draws = values(inputs, "crossed").dropna(subset=["draw"])
draws.groupby(draws["deformations"].map(lambda option: in_words("deformations", option)[1]), sort=False)["value"].describe().round(3)

# %% [markdown]
# RESULT-DRAWS
#
# And {numref}`fig-9-input` crosses what may matter.

# %% tags=["hide-input"] mystnb={"image": {"alt": "A rising curve of points, a dashed line at 0.155, and a matrix of marks below."}, "figure": {"name": "fig-9-input", "caption": "Sensitivity of layer 0, photographs of 224x224, under every combination of the crossed choices. Dashed: the paper's Figure 3a. Records: {glue:text}`fig-9-input-note`."}}
varied = values(inputs, "crossed").loc[lambda table: table["draw"].isna()].dropna(axis=1)
names = list(varied.columns[: list(varied.columns).index("arm")])
glue("fig-9-input-note", inputs.note, display=False)
specification_curve(varied.set_index(names)["value"], "sensitivity, layer 0", in_words, ("published", 0.155), {"the book's": varied.iloc[0][names].to_dict()})

# %% tags=["hide-input"]
near = varied.assign(off=(varied["value"] - 0.155).abs()).sort_values("off", kind="stable").head(12)
near.set_index([*names])[["value"]].round(3)

# %% [markdown]
# RESULT-END

# %% [markdown]
# ## Trained otherwise
#
# Here each row is networks trained anew with one thing changed, on the fixed fifth of CIFAR-10 that the control of
# {ref}`the supervised task <supervised-task>` uses, with true labels. The first row is the book's own recipe. *Factor* is
# what the change does to the sensitivity of trained networks, the geometric mean of layers 1 to 4 and of arms, and at the
# last layer; *smoothness* what it adds to their normalized total variation, mean over filter banks. Claims are judged
# as above, as if these were the networks of the other chapters: 8, filters get smoother; 16, their smoothness converges
# across arms; 17, arms are equally accurate.

# %% tags=["hide-input"]
of_recipes(recipes).round(3)

# %% [markdown]
# RESULT-RECIPES
