# %% [markdown]
# *A draft, which is not built until `cifar10-worst` has records.*

# %% [markdown]
# (worst)=
# # The worst deformation
#
# The paper measures what a *random* deformation does, on average. "In future work", its discussion says, "it will be
# interesting to explore similar questions but with the worst case deformations found via maximization of the deformation
# sensitivity". A network can be stable on average and have a direction in which it is not. So: of all deformations
# within the paper's own bound, which one moves a layer most, how far, and do the variants still converge?

# %% tags=["parameters"]
mode = "full"

# %% tags=["hide-input"]
import pandas as pd
from IPython.display import Markdown
from myst_nb import glue

from deformlib import Deformation
from deformlib.seeding import stream
from reproduction.analysis import worst as tables
from reproduction.analysis.evidence import collect, existing
from reproduction.analysis.networks import load_trained
from reproduction.experiments import worst
from reproduction.experiments.photos import crops
from reproduction.pages.figures import image_rows, rows_of_panels
from reproduction.pages.matrix import matrix

evidence = collect("cifar10-worst", mode)
records = evidence.records
budget = records[0].measurements.budget
glue("fig-worst-note", evidence.note, display=False)
glue("fig-worst-images", records[0].measurements.images, display=False)
glue("fig-worst-forward", budget.forward, display=False)
glue("fig-worst-backward", budget.backward, display=False)

# %% [markdown]
# ## What was found

# %% tags=["hide-input"]
Markdown("\n".join(f"{n}. {sentence}" for n, sentence in enumerate(tables.findings(records), 1)))

# %% [markdown]
# Does a deformation that moves the image far change the class? Compare *random*, *worst, image* and *against the class* in
# the table under the figure.
#
# {numref}`fig-worst` has the paper's measure for random deformations (left) and for the worst one of each image (right),
# and between them, of each image, for the worst of many random ones. What to look for: whether the right panels have the
# shape of the left ones, and whether the variants come together from the upper row to the lower one.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Curves of normalized cosine distance over layers, for random and for worst deformations, before and after training."}, "figure": {"name": "fig-worst", "caption": "Normalized cosine distance under random deformations, under the best of as many random ones as there were passes in the search, and under the worst deformation that was found, {glue:text}`fig-worst-images` test images. Records: {glue:text}`fig-worst-note`."}}
fields = {"random": "random", "best of random": "random_best", "worst": "worst"}
rows_of_panels(
    {
        tables.WHEN[network]: {
            title: tables.by_layer(records, network, field) for title, field in fields.items()
        }
        for network in ("before", "after")
    }
)

# %% tags=["hide-input"]
tables.classes(records).round(2)

# %% [markdown]
# The columns are those of trained networks. *Worst of random* is, of each image, the random deformation that is worst
# for its class, out of as many as the search had passes. *Worst, image* and *worst, last layer* were found for the image
# itself and for the last layer, which knows nothing of classes, *against the class* for the class. An image that was wrong before stays wrong: the identity is
# within the bound.
#
# **What would change our mind.** A search gives a lower bound: a better one that finds much larger distances for some
# variants and not for others would undo what is said of convergence, and none could undo that the worst is at least so
# bad. The table of {ref}`the search <worst-search>` says how much was still gained by its second half. Other networks
# could differ: these are of one seed for each variant. And the deformations that are found lie mostly at the edge of
# the bound; in a bound on their gradient, or on what a person would notice, others would be the worst.
#
# ## How it was done
#
# (worst-search)=
# ### The search
#
# A deformation is a displacement of each of K control points, $c \in [-b, b]^{2K}$, with the paper's K = 9 and b = 2 px
# for CIFAR-10. For a layer $f$ and an image $x$ we look for
#
# $$
# \max_{c \in [-b, b]^{2K}} \; d\big(f(x), f(x \circ (\mathrm{id} + u_c))\big),
# $$ (worst-maximum)
#
# where $u_c$ is the spline through $c$ and $d$ the cosine distance. The field is linear in $c$, the rest of the way
# differentiable but for kinks of bilinear interpolation and of ReLU. So it is climbed by projected gradient ascent: each
# step moves every displacement by the sign of its derivative, $b$ at first and a constant factor less each time, and
# clips it to the bound. The best point on the way is kept. An ascent begins at the best of eight random draws; there
# are several ascents. Finally the best of all random draws takes part. So the result is never below the best of as many
# random draws, and more steps or more ascents never lower it. Each ascent goes through the network up to the layer only.
# In all, an image makes {glue:text}`fig-worst-forward` passes forward and {glue:text}`fig-worst-backward` back for each
# layer, and {glue:text}`fig-worst-forward` for the random draws that it is compared with.

# %% tags=["hide-input"]
tables.search(records, "after").round(3)

# %% [markdown]
# *Over random* and *over best random* are ratios of the worst distance to the mean of random draws and to their best.
# *Steps* and *restarts* say by what fraction the ascents still rose in the second half of their steps, and in the second
# half of the ascents: if these were large, the search would not have come to its end. *Beaten* is the fraction of images
# on which the ascents alone found more than the best random draw. *At bound* is the fraction of the displacements that
# are as large as allowed. Where it is close to 1 the distance grows outwards as a convex function would.
#
# The same for the networks before training:

# %% tags=["hide-input"]
tables.search(records, "before").round(3)

# %% [markdown]
# Layer 0 needs no network. There the maximum is a property of images: what a stable representation could gain or lose
# begins at it.
#
# ### Do variants converge?
#
# The spread between variants (the standard deviation of the logarithm, layer by layer) under both kinds of deformation.
# *Recalibrated* is the untrained network with batch norm statistics of its own activations, as in
# {doc}`03_learned_stability`.

# %% tags=["hide-input"]
tables.convergence(records).round(3)

# %% [markdown]
# ### Does the worst of one layer carry over to another?
#
# Each row of {numref}`fig-worst-carried` is a search; each column a layer at which what it found is tried. 1 is a random
# deformation. What to look for: whether the diagonal stands out, or a row is as high all along. If the rows are alike,
# one deformation is bad for the whole network. {numref}`fig-worst-carried-before` is the same before training.

# %% tags=["hide-input"] mystnb={"image": {"alt": "A matrix of colours: rows are the layers that deformations were found for, columns those at which they are tried."}, "figure": {"name": "fig-worst-carried", "caption": "Distances under the worst deformations found for one layer (row) at another (column), trained networks, relative to those of random deformations at the column's layer; the last row was found against the class. Means over variants. Records: {glue:text}`fig-worst-note`."}}
matrix(tables.carried(records, "after"), "tried at", "found for", "relative to random")

# %% [markdown]
# Where the last layer has a worst deformation of its own only after training, training has made it stable to what moves
# the image most, and left, or made, directions in which it is not.

# %% tags=["hide-input"] mystnb={"image": {"alt": "The same matrix for untrained networks."}, "figure": {"name": "fig-worst-carried-before", "caption": "As the figure before, of the untrained networks with recalibrated batch norm statistics."}}
matrix(tables.carried(records, "calibrated"), "tried at", "found for", "relative to random")

# %% [markdown]
# A value above the diagonal's in its column would mean that the search at that layer missed what another found: its
# maximum is at least that.
#
# ### Does it carry over to other networks?
#
# The same between networks, at the last layer and for the class. On the diagonal is the network that a deformation was
# found for.

# %% tags=["hide-input"]
layer = records[0].measurements.layers[-1]
tables.across(records, layer).round(2)

# %% tags=["hide-input"]
tables.across(records, worst.CLASS).round(2)

# %% [markdown]
# The first table is relative to random deformations at the same layer of the network of the column, the second the
# fraction of its predictions that change.
#
# ### What it looks like
#
# Five pieces of photographs at the size of CIFAR-10, which the network was not trained on, under a random deformation and under
# the worst for the image, an early layer, the last layer, and the class of the Max-pool network. All are within 2 px.

# %% tags=["hide-input"]
images = crops(5, side=32)  # (5, 3, 32, 32)
targets = ["input", "conv1_2", "down4", worst.CLASS]
network = load_trained("cifar10", "max-pool", mode=mode)
shown = worst.pictures(
    network, images, targets, Deformation.CIFAR10, 15, 2, stream(0, "worst, pictures")
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Rows of five small photographs: as they are, randomly deformed, and deformed in the worst way for four targets."}, "figure": {"name": "fig-worst-pictures", "caption": "Worst deformations of pieces of five photographs, of 32x32 pixels, for the image, layer 2, the last layer and the class, of Max-pool, seed 0."}}
image_rows(shown, list("12345"))

# %% [markdown]
# ### A network trained on ImageNet
#
# The same with 5x5 points and 10 px at 224x224 pixels, on networks that others trained ({doc}`06_any_network` has
# untrained ones).

# %% tags=["hide-input"]
imagenet = existing("imagenet-worst", mode).records
if imagenet:
    table = pd.concat(
        {record.spec.network: tables.search([record], "after") for record in imagenet}
    )
else:
    table = pd.DataFrame()
table.round(3)

# %% [markdown]
# ### What others have done
#
# Worst-case deformations have been sought before, against the class. {cite:t}`fawzi2015` measure how far an image has to
# go, along the manifold of its transformed versions, until the class changes, and {cite:t}`kanbak2017` (*ManiFool*) do
# so by gradient steps on that manifold; their transformations are groups of few parameters, up to affine and projective
# ones, and may be large. The deformations here have 18 parameters (50 for ImageNet) and are small. {cite:t}`xiao2018`
# move every pixel on its own, with a penalty on how differently neighbours move, and {cite:t}`alaifari2019` (*ADef*) add
# smoothed fields, each from a linearization, until the class changes. These four look for a change of class. Here
# the search is at every layer as well, and within the bound that random deformations are drawn from: only so can the
# two be compared.
