# %% [markdown]
# (peers)=
# # Other measures
#
# Since this paper others have asked how stable a network is, and measured it in their own ways. If the answers depend on
# the way, then what the paper found is about its measure; if they do not, it is about networks. This chapter takes two
# other measures of the same networks and asks four things. Do they agree with the paper's? Does the paper's own measure
# depend on how strong the deformations are? Can one see the "correct amount" of stability of which the paper speaks? And
# which measure tells a network that errs little from one that errs much?
#
# **Relative stability** {cite:p}`petrini2021`. An image $x$ is moved by a *maximum-entropy diffeomorphism* $\tau$: a
# random smooth field, a sum of sines that vanish at the image's edge, whose amplitudes are Gaussian and fall with
# frequency as much as they may for a given roughness. Two factors are taken of a representation $f$:
#
# $$
# D = \frac{\big\langle \lVert f(\tau x) - f(x)\rVert^2 \big\rangle}{\big\langle \lVert f(x) - f(z)\rVert^2 \big\rangle},
# \qquad
# G = \frac{\big\langle \lVert f(x + \eta) - f(x)\rVert^2 \big\rangle}{\big\langle \lVert f(x) - f(z)\rVert^2 \big\rangle},
# \qquad R = \frac{D}{G},
# $$ (relative-stability)
#
# where $z$ is another image and $\eta$ Gaussian noise as large as $\tau x - x$. $D$ is nearly the paper's measure: squared Euclidean
# distances in place of cosine ones, means over pairs in place of the median. $R$ is something else. It asks whether a layer minds
# a deformation more or less than it minds *any* change of that size; below 1, less. {cite:t}`petrini2021` find, at the
# output of many architectures, that $D$ says little about test error and $R$ much. Here as there, a pixel moves by about 1
# px, with three frequencies along a side.
#
# **Shift consistency** {cite:p}`zhang2019`. Move an image twice, by whole pixels drawn at random, and ask whether the
# network gives both the same class. Here shifts are of up to 2 px along each axis, and what comes in from outside repeats the edge. Of the
# share of images that *change* their class, "shifts" below, there is a companion in every record of a training: "flips", the
# share that changes when the paper's deformation is applied.

# %% tags=["parameters"]
mode = "full"

# %% tags=["hide-input"]
import pandas as pd
from myst_nb import glue

from deformlib.concordance import agreement, by_measure, last, networks, orders, performance, prediction, sweep
from deformlib.evidence import by_layer, collect, existing
from deformlib.figures import networks_as_points, rows_of_panels

trained = collect("cifar10", mode)
peers = collect("cifar10-peers", mode)
glue("fig-peers-note", peers.note, display=False)
glue("fig-peers-trained-note", trained.note, display=False)

# %% [markdown]
# ## Do they agree?
#
# {numref}`fig-peers` has four measures of the same networks, layer by layer: the paper's sensitivity (chapter
# {doc}`03_learned_stability` shows it larger), the two factors, and their ratio. All are taken on the same images. What to
# look for: which rows have the same shape, and what training does to $D$ and to $G$.

# %% tags=["hide-input"] mystnb={"image": {"alt": "A grid of curves over the layers, one for each arm: in rows the paper's sensitivity, the response to diffeomorphisms, the response to noise, and their ratio with a line at 1; in columns before and after training."}, "figure": {"name": "fig-peers", "caption": "The paper's sensitivity, Petrini's two factors and their ratio, by layer; layer 0 is the image. Grey: a layer that minds deformation as much as noise. Lines: means over seeds, with bands of two standard deviations over seeds where an arm has more than one. Records: {glue:text}`fig-peers-note`."}}
before, after = by_measure(trained, peers, "before"), by_measure(trained, peers, "after")
labels = {"sensitivity": "sensitivity", "D": "D, deformation", "G": "G, noise", "R": "R = D / G"}
rows_of_panels({label: {"before training": before[name], "after training": after[name]} for name, label in labels.items()},
               levels={labels["R"]: 1})

# %% [markdown]
# Before training:

# %% tags=["hide-input"]
pd.concat({name: by_layer(before[name]) for name in labels}, names=["measure"])

# %% [markdown]
# After training:

# %% tags=["hide-input"]
pd.concat({name: by_layer(after[name]) for name in labels}, names=["measure"])

# %% [markdown]
# TODO

# %% tags=["hide-input"]
agreement(before, after)

# %% [markdown]
# TODO
#
# ## Stronger and weaker deformations
#
# The paper displaces the control points of CIFAR-10 by up to C = 2 px. Is that number behind its findings? Every record of a
# training holds the sensitivity to weaker and stronger deformations of the same images. {numref}`fig-peers-strength` has it
# for the last layer. What to look for: curves that cross.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two panels of rising curves, one for each arm: sensitivity of the last layer over the largest displacement, before and after training."}, "figure": {"name": "fig-peers-strength", "caption": "The paper's sensitivity of the last layer to deformations of different strength: the largest displacement C of a control point. The paper's is 2 px. Lines and bands as before. Records: {glue:text}`fig-peers-trained-note`."}}
swept = {when: sweep(trained, when) for when in ("before", "after")}
over = {when: last(table).assign(layer=last(table)["strength"]) for when, table in swept.items()}
rows_of_panels({"sensitivity, last layer": {f"{when} training": table for when, table in over.items()}}, "C, px")

# %% tags=["hide-input"]
pd.concat({when: by_layer(table) for when, table in over.items()}, names=["training", "C, px"])

# %% [markdown]
# The rank correlation, over the arms of a seed, of the sensitivity to C with that to 2 px; 1 is the same order. *All
# layers* is the mean over those from the first downsampling layer on.

# %% tags=["hide-input"]
orders(swept["before"], swept["after"], 2.0)

# %% [markdown]
# TODO
#
# ## The correct amount
#
# The paper concludes that pooling gives a network "the wrong amount" of stability to begin with and that training finds the
# right one. If there is a right amount, networks that have it should do better than networks that have more and than those
# that have less. {numref}`fig-peers-amount` puts them all on one plane: the five arms, and those trained by another
# recipe, where there are records. What to look for: a hump.

# %% tags=["hide-input"] mystnb={"image": {"alt": "A scatter of trained networks: test accuracy against sensitivity of the last layer, coloured by arm."}, "figure": {"name": "fig-peers-amount", "caption": "Test accuracy of trained networks against the sensitivity of their last layer; a point is a network. Shapes: the study that it comes from. Records: {glue:text}`fig-peers-trained-note`, and those of cifar10-augmented and cifar10-subset that there are."}}
amount = performance(trained, existing("cifar10-augmented", mode), existing("cifar10-subset", mode))
points = amount.rename(columns={"sensitivity, last layer": "x", "test accuracy": "y"}).assign(name="")
networks_as_points(points, "sensitivity, last layer", "test accuracy")

# %% tags=["hide-input"]
amount.round(3)

# %% [markdown]
# TODO
#
# ## Which measure knows the test error?
#
# {numref}`fig-peers-error` has a panel for each measure and a point for each network whose weights were kept. What to look for: a panel in
# which the points lie on a line.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Nine panels of points: test error against the paper's sensitivity, D, G and R of the last layer, the same three at the output, flips, and shifts."}, "figure": {"name": "fig-peers-error", "caption": "Test error of the trained networks against nine measures of them; a point is a network. Records: {glue:text}`fig-peers-note`."}}
found = networks(trained, peers)
points = found.melt(["arm", "seed", "test error"], var_name="name", value_name="x").rename(columns={"test error": "y"})
networks_as_points(points, "the measure", "test error")

# %% tags=["hide-input"]
found.round(3).set_index(["arm", "seed"]).T

# %% [markdown]
# The same as rank correlations with test error:

# %% tags=["hide-input"]
prediction(found)

# %% [markdown]
# TODO
