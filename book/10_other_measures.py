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
# field that is as random as it can be at a given roughness, a sum of sines that vanish at the image's edge, with
# Gaussian amplitudes that are the smaller the higher the frequency. Two factors are taken of a representation $f$:
#
# $$
# \begin{aligned}
# D &= \frac{\big\langle \lVert f(\tau x) - f(x)\rVert^2 \big\rangle}{\big\langle \lVert f(x) - f(z)\rVert^2 \big\rangle}, \\
# G &= \frac{\big\langle \lVert f(x + \eta) - f(x)\rVert^2 \big\rangle}{\big\langle \lVert f(x) - f(z)\rVert^2 \big\rangle}, \qquad R = \frac{D}{G},
# \end{aligned}
# $$ (relative-stability)
#
# where $z$ is another image and $\eta$ Gaussian noise as large as $\tau x - x$ (for each image; in theirs as large as
# that on average over images, as far as we know). $D$ is nearly the paper's measure: squared Euclidean distances in
# place of cosine ones, means over pairs in place of the median. $R$ is something else. It asks whether a layer minds a
# deformation more or less than it minds *any* change of that size; below 1, less. {cite:t}`petrini2021` find, at the
# *output* of many architectures, the class scores, that $D$ says little about test error and $R$ much. As there, a
# pixel moves by about 1 px, with three frequencies along a side.
#
# **Shift consistency** {cite:p}`zhang2019`. Move an image twice, by whole pixels drawn at random, and ask whether the
# network gives both the same class. Here shifts are of up to 2 px along each axis, and what comes in from outside repeats the edge. Below,
# *shifts* is the share of test images that get different classes, and *flips* the share whose class changes under the paper's
# deformation. Both are of trained networks only: the class that a network gives before its training means nothing.

# %% tags=["parameters"]
mode = "full"

# %% tags=["hide-input"]
import pandas as pd
from myst_nb import glue

from reproduction.analysis.concordance import (
    by_measure,
    by_strength,
    networks,
    orders,
    performance,
    prediction,
    rank_correlations,
)
from reproduction.analysis.evidence import by_layer, collect, existing, last
from reproduction.pages.figures import networks_as_points, rows_of_panels

pd.set_option("display.max_rows", None)
trained = collect("cifar10", mode)
peers = collect("cifar10-other-measures", mode)
glue("fig-peers-note", peers.note, display=False)
glue("fig-peers-trained-note", trained.note, display=False)

# %% [markdown]
# ## Do they agree?
#
# {numref}`fig-peers` has four measures of the same networks, layer by layer: the paper's sensitivity (chapter
# {doc}`03_learned_stability` shows it larger), the two factors, and their ratio. All are taken on the same images. What to
# look for: which rows have the same shape, and what training does to $D$ and to $G$.

# %% tags=["hide-input"] mystnb={"image": {"alt": "A grid of curves over the layers, one for each variant: in rows the paper's sensitivity, the response to diffeomorphisms, the response to noise, and their ratio with a line at 1; in columns before and after training."}, "figure": {"name": "fig-peers", "caption": "The paper's sensitivity, Petrini's two factors and their ratio, by layer; layer 0 is the image. Grey: a layer that minds deformation as much as noise. Lines: means over seeds, with bands of two standard deviations over seeds where a variant has more than one. Records: {glue:text}`fig-peers-note`."}}
before, after = by_measure(trained, peers, "before"), by_measure(trained, peers, "after")
labels = {"sensitivity": "sensitivity", "D": "D, deformation", "G": "G, noise", "R": "R = D / G"}
rows_of_panels(
    {
        label: {"before training": before[name], "after training": after[name]}
        for name, label in labels.items()
    },
    levels={labels["R"]: 1},
)

# %% [markdown]
# Before training (long, so folded):

# %% tags=["hide-input", "hide-output"]
pd.concat({name: by_layer(before[name]) for name in labels}, names=["measure"])

# %% [markdown]
# After training (likewise):

# %% tags=["hide-input", "hide-output"]
pd.concat({name: by_layer(after[name]) for name in labels}, names=["measure"])

# %% [markdown]
# In full mode, with two seeds of each variant, $D$ has the shape of the paper's measure, before training and after it. $G$
# has not. The paper's two variants that pool are both stable by its measure before training, but for opposite reasons.
# Average-pool hardly responds to anything, and its $G$ falls further than its $D$, so that $R$ rises to 3 at layer 8
# (at the last, where $G$ is 0.005, it is 1.8). Max-pool minds noise most of all variants (0.11) and deformation less than
# those without pooling: its $R$ ends at 0.62, and that of the variants without pooling at 1.2 to 1.3. By this measure only
# Max-pool, of the paper's variants, gives an untrained network a stability to *deformation*. Blur-pool does so far more: it
# takes deformation almost as little as Average-pool (0.016 and 0.009 at the last layer) and noise as Strided and
# Strided-ReLU do (0.068), so that its $R$ is 0.23.
#
# In the mean over seeds training makes the last layer of every variant more sensitive to noise (of single networks all but
# Strided's seed 0, 0.104 to 0.086), which {cite:t}`tomasini2022` found too: $G$ was 0.005 to 0.11 and is 0.09 to 0.13.
# And it brings the variants together: $R$ at the last layer was 0.6 to 1.8 in the paper's variants (0.2 in Blur-pool) and is
# 0.69 to 0.91. In all variants it rises to a peak of 1.65 to 1.81 in layers 2 to 4, falls, and ends below 1. So by this
# measure as well networks end with the same pattern, and it says more plainly what the pattern is: early layers mind a
# deformation more than noise, late ones less.
#
# One thing depends on the measure. The paper's falls at the last layer in every variant but Average-pool and Blur-pool; in
# the mean over seeds $D$ falls in Subsample and Strided only (in Strided with seed 0 alone), and rises in the other
# four. In Max-pool the paper's measure depends on the seed, too: with two of the three others of {numref}`fig-3d` it
# rises. So whether training makes the top of a Max-pool network stabler is a question of the seed, and of cosine or
# Euclidean distance ({numref}`fig-3d-euclidean`).
#
# The table has rank correlations with the paper's measure. *Layers*: are those of a network ranked alike (mean over
# networks)? *Variants*: are the variants, at a layer and with the same seed (mean over layers, from the first downsampling on, and seeds)?
# *Training*: are all layers of all variants, by the factor that training changes them by? *R, splines* is $R$ with the paper's deformations in place
# of the diffeomorphisms, at C = 2 px.

# %% tags=["hide-input"]
rank_correlations(before, after)

# %% [markdown]
# In full mode $D$ agrees with the paper's measure in everything: 0.91 or more. $R$ agrees after training (0.92 over
# layers, 0.83 over variants), but not before it (0.47 and 0.24), nor on what training changes (0.39). Average-pool does
# most of that: without it these three would be 0.62, 0.76 and 0.82. The kind of deformation makes little difference, as
# the last row shows (0.13 at most). What makes one is whether noise is divided out. (Six variants are few to rank: if two
# neighbours change places, 1 becomes 0.94.)
#
# ## Stronger and weaker deformations
#
# The paper displaces the control points of CIFAR-10 by up to C = 2 px. Is that number behind its findings? Every record of a
# training holds the sensitivity to weaker and stronger deformations of the same images. {numref}`fig-peers-strength` has it
# for the last layer. What to look for: curves that cross.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two panels of rising curves, one for each variant: sensitivity of the last layer over the largest displacement, before and after training."}, "figure": {"name": "fig-peers-strength", "caption": "The paper's sensitivity of the last layer to deformations of different strength: the largest displacement C of a control point. The paper's is 2 px. Lines and bands as before. Records: {glue:text}`fig-peers-trained-note`."}}
swept = {when: by_strength(trained, when) for when in ("before", "after")}
over = {when: last(table).assign(layer=last(table)["strength"]) for when, table in swept.items()}
panels = {f"{when} training": table for when, table in over.items()}
rows_of_panels({"sensitivity, last layer": panels}, "C, px")

# %% tags=["hide-input"]
pd.concat(
    {when: by_layer(table) for when, table in over.items()}, names=["training", "C, px", "layer"]
).droplevel("layer")

# %% [markdown]
# The rank correlation, over the variants of a seed, of the sensitivity to C with that to 2 px; 1 is the same order. *All
# layers* is the mean over those from the first downsampling layer on.

# %% tags=["hide-input"]
orders(swept["before"], swept["after"], 2.0)

# %% [markdown]
# In full mode that number hardly matters at the last layer from one pixel up: at 1 and at 4 px the order of the variants is
# nearly that at 2 px, before training and after it (rank correlations of 0.90 to 0.98). Two things change. At half a
# pixel the untrained Max-pool network is the most sensitive of all with seeds 0 and 1 (0.042, where those without
# pooling have 0.035 to 0.040, and 0.033, where they have 0.019 to 0.030) and the second or third with the others; at
# one pixel each seed has the order of 2 px, but that with seed 3 Max-pool is still above Strided. So the first of the
# paper's claims, that pooling stabilizes, needs larger deformations where Max-pool is concerned. (Average-pool is the
# stablest before training at any strength.) And after training Average-pool is less stable than Strided at half a pixel
# with four of five seeds, and stabler at 2 px with all. Nor is the stablest trained variant the same at all strengths:
# Blur-pool is it at 2 px with each of its three seeds, and Average-pool, by a little, at 4 px. Over all layers from the
# first downsampling on, the order after training is at 4 px and at half a pixel only roughly that at 2 px (0.86 and
# 0.78).
#
# The trained networks respond almost in proportion: from 0.5 to 4 px, eight times as far, their last layers become 9 to
# 11 times as sensitive. The untrained ones differ: 9 times with Max-pool, 12 to 15 with Blur-pool and without pooling,
# 31 with Average-pool.
#
# ## The correct amount
#
# The paper asks whether pooling suffices "for achieving the correct amount of stability to deformation", and takes it that
# there is such an amount. If so, networks that have it should do better than networks that have more and than those
# that have less. {numref}`fig-peers-amount` puts them all on one plane: the variants, and those trained by other
# recipes ({doc}`09_choices`), where there are records. What to look for: a hump.

# %% tags=["hide-input"] mystnb={"image": {"alt": "A scatter of trained networks: test accuracy against sensitivity of the last layer, coloured by variant."}, "figure": {"name": "fig-peers-amount", "caption": "Test accuracy of trained networks against the sensitivity of their last layer; a point is a network. Shapes: the study that it comes from, all trained on CIFAR-10, those of cifar10-subset and cifar10-recipes on the same 10,000 of its images. Records: {glue:text}`fig-peers-trained-note`; cifar10-augmented: {glue:text}`fig-peers-augmented-note`; cifar10-subset: {glue:text}`fig-peers-subset-note`; cifar10-recipes, each recipe: {glue:text}`fig-peers-recipes-note`."}}
augmented = existing("cifar10-augmented", mode)
subset = existing("cifar10-subset", mode)
varied = existing("cifar10-recipes", mode)
glue("fig-peers-augmented-note", augmented.note, display=False)
glue("fig-peers-subset-note", subset.note, display=False)
glue("fig-peers-recipes-note", varied.note, display=False)
recipes = list(dict.fromkeys(record.spec.recipe for record in varied.records))
others = [varied.only(recipe=recipe) for recipe in recipes[1:]]  # the first is the book's own
amount = performance(trained, augmented, subset, *others)
points = amount.rename(columns={"sensitivity, last layer": "x", "test accuracy": "y"})
points = points.assign(name="")
networks_as_points(points, "sensitivity, last layer", "test accuracy")

# %% [markdown]
# The networks one by one (long, so folded; the other recipes in the order of {doc}`09_choices`):

# %% tags=["hide-input", "hide-output"]
amount.round(3)

# %% [markdown]
# How sensitivity and accuracy go together within a study:

# %% tags=["hide-input"]
by_study = amount.groupby("study", sort=False)[["sensitivity, last layer", "test accuracy"]]
pd.DataFrame(
    {
        "networks": by_study.size(),
        "rank correlation": by_study.corr("spearman").iloc[::2, 1].droplevel(1).round(2),
    }
)

# %% [markdown]
# In full mode there is no hump, in the 73 networks of the table: what is seen is a fall. It is clearest among networks
# that saw the same fifth of the images, with a rank correlation of -0.90 over variants and seeds, and of -0.83 among three
# variants trained in seven other ways. Over all images it is -0.50. Max-pool is the exception there: at 0.14 it is about as
# accurate (0.83 to 0.84) as Average-pool at 0.09 to 0.10, while Subsample and Strided-ReLU, at 0.12 to 0.14, stand at
# 0.79 to 0.81. So the amount, as the paper measures it, does not say by itself how well a network does. Nor is there a
# sign that networks can be too stable. In these three studies the least sensitive network is among the most accurate:
# Blur-pool, at 0.08 to 0.09, and of the other recipes Average-pool with augmentation, at 0.08. The most sensitive two,
# Strided-ReLU with AdamW and with a quarter of the rate, at 0.24 and 0.26, are the least accurate. The six that were
# trained with augmentation on all images are the stablest, at 0.07 to 0.08, and the most accurate, at 0.86 to 0.88;
# among themselves they show no order (0.09).
#
# What this shows is limited. If the correct amount lies below 0.07, all these networks are on one side of the hump.
# Variants that differ in sensitivity differ in other things as well. And the paper's "amount" is a pattern over all layers,
# which was not tested.
#
# ## Which measure knows the test error?
#
# {numref}`fig-peers-error` has a panel for each measure and a point for each network whose weights were kept. What to look for: a panel in
# which the points lie on a line.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Nine panels of points: test error against the paper's sensitivity, D, G and R of the last layer, the same three at the output, flips, and shifts."}, "figure": {"name": "fig-peers-error", "caption": "Test error of the trained networks against nine measures of them; a point is a network. Records: {glue:text}`fig-peers-note`."}}
found = networks(trained, peers)
points = found.melt(["variant", "seed", "test error"], var_name="name", value_name="x")
points = points.rename(columns={"test error": "y"})
networks_as_points(points, "the measure", "test error")

# %% tags=["hide-input"]
found.round(3).set_index(["variant", "seed"]).T

# %% [markdown]
# The same as rank correlations with test error:

# %% tags=["hide-input"]
prediction(found)

# %% [markdown]
# In full mode the paper's measure tells something (0.52 over twelve networks), $D$ at the last layer little (0.30), and
# $R$ tells: 0.87 at the last layer, 0.69 at the output. So what Petrini et al. find at the output is met here at the
# last layer, on networks that differ in one kind of layer only: there it is not $D$ that goes with a low error, but $D$
# relative to the response to noise. At the output itself it is not met, as $D$ alone comes to 0.78 there.
#
# Flips and shifts follow the error best of all (0.96 and 0.94). But they are about the same thing: if a network changes
# its mind about an image, it was wrong once at least. They are also counted on the most images, flips and errors on
# 10,000, shifts on 2,000, the others on 128.
#
# How much is behind these numbers? Twelve networks, but two seeds of a variant lie close together in most panels: rather
# six points than twelve, and nine measures were tried on them. With six points a correlation of 0.94 is one exchange
# away from a perfect one, and one of 0.3 is compatible with anything. (One variant can move it much: without Blur-pool the
# correlation of the paper's measure is 0.18. Over all networks of `cifar10` it is 0.50, without Blur-pool 0.30.) What
# can be said is that the paper's measure and $D$ put Max-pool and Strided on the wrong sides, in both seeds, and that
# $R$ makes that mistake by less.
