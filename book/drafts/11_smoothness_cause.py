# %% [markdown]
# *A draft, which is not built until `cifar10-matching`, `cifar10-random-labels-matching` and `cifar10-smoothing` have records.*

# %% [markdown]
# (smoothness-cause)=
# # Is smoothness sufficient? Is it necessary?
#
# The paper's central step is a correlation: training makes filters smoother and networks more stable, so smooth filters
# carry the stability. Here we intervene. If smoothness is *sufficient*, random filters that are as smooth as trained ones
# make a network as stable. If it is *necessary*, trained filters that are made as rough as random ones lose what they had.
#
# Smoothness is a matter of how the nine taps of a kernel go together. That is in their second moments, a 9x9 matrix for
# each layer. So we give one set of weights the second moments of another, and change nothing else.

# %% tags=["parameters"]
mode = "full"
variants = None  # ways of downsampling; None for all

# %% tags=["hide-input"]
import pandas as pd
from IPython.display import Markdown
from myst_nb import glue

from reproduction.analysis.evidence import collect
from reproduction.analysis.replaced import (
    SCOPES,
    as_table,
    carried,
    changes,
    findings,
    smoothings,
)
from reproduction.experiments.matching import LADDER, REPLACEMENTS
from reproduction.pages.figures import rows_of_panels
from reproduction.pages.figures.replaced import changes_by_layer, ladder

for trained in ("cifar10", "cifar10-random-labels"):
    collect(trained, mode, variants=variants)
real = collect("cifar10-matching", mode, variants=variants)
random = collect("cifar10-random-labels-matching", mode, variants=variants)
smoothing = collect("cifar10-smoothing", mode, variants=variants)
change, change_random = changes(real), changes(random)
glue("fig-cause-note", real.note, display=False)
glue("fig-cause-random-note", random.note, display=False)
glue("fig-cause-smoothing-note", smoothing.note, display=False)

# %% [markdown]
# ## What was found

# %% tags=["hide-input"]
Markdown(
    "\n".join(
        f"{n}. {found}" for n, found in enumerate(findings(change, change_random, smoothing), 1)
    )
)

# %% [markdown]
# {numref}`fig-cause` has the curves behind the first two. Each shows by how much the logarithm of sensitivity differs
# from that before training, with batch norm statistics computed anew in all networks. What to look for: whether the
# second panel has the shape of the first, and what the third still has of it.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two rows of three panels of curves over layers, one curve for each way of downsampling: trained, random with trained second moments, trained with initial second moments; above for real labels, below for random labels."}, "figure": {"name": "fig-cause", "caption": "Change of log sensitivity since before training: of the trained network, of random weights with its second moments (sufficient?), and of its weights with those of before (necessary?). Lines: means over seeds, with bands of two standard deviations. Records: {glue:text}`fig-cause-note`; random labels: {glue:text}`fig-cause-random-note`."}}
shown = {"after": "trained", "moments": "sufficient?", "without": "necessary?"}
changes_by_layer({"real labels": change, "random labels": change_random}, shown)

# %% [markdown]
# Training does two things: it raises the sensitivity of the first layers and lowers that of the last. The fraction of
# each that an intervention carries, with Student's interval over seeds where there is more than one:

# %% tags=["hide-input"]
pd.concat({scope: as_table(carried(change, scope), shown) for scope in list(SCOPES)[:4]})

# %% [markdown]
# *Highest to last* is the fall from the layer that training makes most sensitive, relative to before, to the last one. It
# tells what the later layers do from what the first ones have done: a network whose layers are all a little stabler
# ends stable without having learned what a trained one has. Where training changes the logarithm by less than a quarter
# there is no fraction.
#
# **What would change our mind.** Second moments are one description of smoothness. If kernels with the same second
# moments but another total variation behaved otherwise, what is said here would be about the moments alone. All layers
# are replaced at once, and batch norm is calibrated: a network that was trained with such filters could do better than
# one that was given them. That is what the trainings with a penalty on roughness are for.
#
# ## How it was done
#
# ### The replacement
#
# Let $M$ be the second moments of the taps, $M = \langle w w^\top \rangle$ over the kernels $w \in \mathbb{R}^9$ of a layer, and
# $C$ those asked for. Any $A$ with $A M A^\top = C$ will do, and there are many: a rotation may come between whitening and
# colouring. We take
#
# $$ A = C^{1/2} \left( C^{1/2} M C^{1/2} \right)^{-1/2} C^{1/2}, $$
#
# the only one that is symmetric and has no negative eigenvalue. It is also the one that changes the kernels least in mean
# square: the optimal transport between two normal distributions {cite:p}`olkin1982`. The size of $C$ does not matter,
# since batch norm divides it out.

# %%
import torch

from deformlib.filters import filters_of
from reproduction.analysis.networks import load_initial, load_trained
from reproduction.experiments.matching import recoloured, second_moments

before, after = (
    filters_of(load("cifar10", "max-pool", mode=mode))["conv4_2.conv"]
    for load in (load_initial, load_trained)
)
found = recoloured(before, second_moments(after))
torch.allclose(second_moments(found), second_moments(after), rtol=1e-4)

# %% [markdown]
# The smoothness of the filters, as the paper measures it, follows the second moments: normalized total variation, mean
# over layers, variants and seeds.

# %% tags=["hide-input"]
variation = pd.DataFrame([record.measurements.smoothness for record in real.records])
variation.map(lambda values: sum(values) / len(values)).mean().round(3).to_frame("total variation")

# %% [markdown]
# ### What is spatial, and what is in the channels
#
# Between the second moments and the trained network lies a ladder, each rung of which keeps more. {numref}`fig-cause-ladder`
# climbs it at the last layer:
#
# - *second moments of the taps*: random weights that have those of the trained ones;
# - *kernels*: the trained kernels, each between another pair of channels;
# - *filters*: the trained filters, in each of which the kernels have changed places;
# - *layers*: the trained layers, whose input channels have changed places, in all filters alike: every layer is what it
#   was, but does not fit the one below;
# - *all weights*: trained, with batch norm's scale and shift as before training;
# - *trained*.
#
# Up to the third rung everything is about space. What the fourth adds is the way a layer combines channels, and what
# the fifth adds is that the layers were trained together.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two panels: change of log sensitivity at the last layer, rung by rung from the initial to the trained network, one line for each way of downsampling."}, "figure": {"name": "fig-cause-ladder", "caption": "Change of log sensitivity at the last layer, rung by rung. Records: {glue:text}`fig-cause-note`; random labels: {glue:text}`fig-cause-random-note`."}}
rungs = {"before": "before training", **{name: name for name in LADDER}, "after": "trained"}
last = {
    title: table[table["layer"] == table["layer"].max()]
    for title, table in {"real labels": change, "random labels": change_random}.items()
}
ladder(last, rungs)

# %% [markdown]
# The fractions at the last layer, of all replacements. *Second moments of the change*: of $W - W_0$, given to random
# weights that are added to the initial ones. *3x3 alone*: the 2x2 kernels of Strided and Strided-ReLU, which the paper
# does not count as filters, are left as they were.

# %% tags=["hide-input"]
labels = {name: replacement.label for name, replacement in REPLACEMENTS.items()}
as_table(carried(change, "last layer"), labels)

# %% [markdown]
# After training on random labels:

# %% tags=["hide-input"]
as_table(carried(change_random, "last layer"), labels)

# %% [markdown]
# And from the layer that training makes most sensitive to the last:

# %% tags=["hide-input"]
as_table(carried(change, "highest to last"), labels)

# %% [markdown]
# Over the layers that training makes more sensitive, and over those that it makes less so. A layer counts by how much
# training changes it: where its change goes through zero, at layers 4 to 6, a replacement's can be large, and would
# rule a plain sum, which is given as well (long, so folded).

# %% tags=["hide-input", "hide-output"]
pd.concat({scope: as_table(carried(change, scope), labels) for scope in SCOPES})

# %% [markdown]
# The changes themselves, layer by layer, means over seeds (likewise):

# %% tags=["hide-input", "hide-output"]
change.pivot_table(index=["variant", "network"], columns="layer", values="value", sort=False).round(
    2
)

# %% [markdown]
# ### Smoothing what is trained
#
# If smooth filters are stable ones, smoothing should make a network stabler, whatever it does to its accuracy. Trained
# filters are convolved with a Gaussian. The control turns each filter by the same angle in a random direction, and keeps
# its length: since batch norm divides lengths out, the angle is the size of a change.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two rows of two panels over the width of the Gaussian: sensitivity of the last layer and accuracy, for smoothed filters and for randomly turned ones."}, "figure": {"name": "fig-cause-smoothing", "caption": "Sensitivity of the last layer and test accuracy of trained networks whose filters were smoothed by a Gaussian of σ px, and as much changed at random. Records: {glue:text}`fig-cause-smoothing-note`."}}
quantities = {"sensitivity": "sensitivity, last layer", "accuracy": "test accuracy"}
rows_of_panels({label: smoothings(smoothing, name) for name, label in quantities.items()}, "σ, px")

# %% tags=["hide-input"]
tables = {
    (label, how): values.groupby(["variant", "layer"], sort=False)["value"].mean()
    for name, label in {**quantities, "turned": "cosine"}.items()
    for how, values in smoothings(smoothing, name).items()
}
pd.DataFrame(tables).rename_axis(["variant", "σ, px"]).round(3)

# %% [markdown]
# *Cosine* is that of the angle between a filter and what it was, the mean over filters and layers.
#
# ### With training
#
# Two questions are left that no change of finished weights can answer: whether networks *trained* to be smoother are
# stabler, and whether networks trained on deformed images have smoother filters {cite:p}`wong2016`. The code for both is
# `reproduction.experiments.imposed`; the networks are still to be trained.
