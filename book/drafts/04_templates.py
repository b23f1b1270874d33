# %% [markdown]
# ## Tasks that ask for stability
#
# Random filters are not learned ones. Does a network that has to be stable *learn* smooth filters? For its third step
# the paper makes up tasks in which the amount of stability asked for can be set. A class is a single handwritten digit
# of MNIST {cite:p}`lecun1998`, its examples are copies of this digit under random deformations, drawn anew at every
# use. The larger the deformations, of up to C pixels, the more a network must overlook in order to tell the classes
# apart. {numref}`fig-5a` shows the idea, as the paper's Figure 5a does. MNIST's images are not part of this book, so the
# digits in the figure are typeset; those in the tasks are handwritten.

# %% tags=["parameters"]
mode = "full"

# %% tags=["hide-input"]
import pandas as pd
from myst_nb import glue

from deformlib import Deformation, deform
from deformlib.agreement import published
from deformlib.evidence import at_displacement, by_layer, collect
from deformlib.figures import image_rows, panels_by_layer, smoothness_by_layer
from deformlib.photos import typeset_digits
from deformlib.streams import stream
from deformlib.studies import STRENGTHS

# %% tags=["hide-input"] mystnb={"image": {"alt": "Ten digits in a row and below them four rows of the same digits, more and more deformed."}, "figure": {"name": "fig-5a", "caption": "The classes of a task, one a column, and one example of each at four strengths (the paper's Figure 5a). A column has the same random deformation four times, ever stronger; in training each example has its own."}}
digit = typeset_digits()
rows = {f"C = {C:g}": deform(digit, Deformation(3, C), generator=stream(0, "shown examples")) for C in STRENGTHS}
image_rows({"class": digit, **rows}, range(10))

# %% [markdown]
# The network is that of CIFAR-10 with Max-pool; each task has ten classes. The recipe is the same for every strength, and so are
# the initial filters and the order of the examples, seed by seed. In quick mode ten photographs take the place of
# the digits.

# %% tags=["hide-input"]
digits, noise = collect("mnist-templates", mode), collect("mnist-templates-noise", mode)
others = collect("mnist-templates-others", mode)
glue("fig-5b-note", digits.note, display=False)
glue("fig-5b-noise-note", noise.note, display=False)
glue("fig-5b-others-note", others.only(classes=100).note, display=False)

# %% [markdown]
# All four tasks should be learned, or their filters say nothing. Test examples are deformed as those in training;
# *deformed* ones are deformed once more, by up to 2 pixels.

# %% tags=["hide-input"]
digits.accuracies()

# %% [markdown]
# {numref}`fig-5b` is the paper's Figure 5b. What to look for: whether the curves lie in the order of C, the
# darkest lowest, and which of them leave the dotted line at all.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Four curves over eight filter banks, one for each strength, below a dotted line; dashed published curves."}, "figure": {"name": "fig-5b", "caption": "Smoothness of the filter banks after training on digits deformed by up to C pixels (the paper's Figure 5b), averaged over kernels; lower is smoother. Lines: means over seeds, with bands of two standard deviations over seeds where a C has more than one. Dotted: before training. Dashed: read off the published plot. Records: {glue:text}`fig-5b-note`."}}
before, after = digits.banks(checkpoint=0), digits.banks()
smoothness_by_layer(after, before, published("5") if mode == "full" else None, arm_field="strength")

# %% tags=["hide-input"]
by_layer(after, before)

# %% [markdown]
# ### Or did they merely move further?
#
# There is another reading. Untrained filters are rough. A task that is solved after a few small steps leaves them
# nearly where they were, and so rough, whatever it would have made of them in the end. A harder task drives them
# further. Then C would set how far the filters move, and smoothness would only follow from that. The table has how far
# each bank moved in training, $\lVert W - W_0\rVert / \lVert W_0\rVert$: at 1 the change is as large as the filters
# that it began with.

# %% tags=["hide-input"]
by_layer(digits.banks("change_norm"))

# %% [markdown]
# So look at the change alone. $W - W_0$ is what training added, however much or little that is. If weak deformations
# asked for it to be rough, or for nothing in particular, it should be about as rough as random weights, 1.87.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Four curves over eight filter banks: smoothness of the change of the filters, and a dotted line."}, "figure": {"name": "fig-5b-change", "caption": "Smoothness of what training added to the filters, averaged over kernels. Dotted: the filters before training. Records: {glue:text}`fig-5b-note`."}}
change = digits.banks("change_kernel")
smoothness_by_layer(change, before, arm_field="strength")

# %% tags=["hide-input"]
by_layer(change, before)

# %% [markdown]
# And compare the tasks where their filters have moved equally far. Each bank has, under each C, its own way from
# the beginning of training to the end, with a measurement at eight moments. {numref}`fig-5b-matched` takes each bank at the moment when it
# had moved as far as it did in the task that moved it least (linear between two measurements).

# %% tags=["hide-input"] mystnb={"image": {"alt": "The four curves at equal displacement, and the dotted line of the initialization."}, "figure": {"name": "fig-5b-matched", "caption": "Smoothness of each filter bank at the moment when it had moved as far as under the C that moved it least. Records: {glue:text}`fig-5b-note`."}}
matched = at_displacement(digits)
smoothness_by_layer(matched, before, arm_field="strength")

# %% tags=["hide-input"]
by_layer(matched, before)

# %% [markdown]
# ### Deformation, or any change at all?
#
# Stronger deformations also change more of an image. Perhaps any change of that size makes filters smooth: noise,
# for one, is overlooked by averaging neighbours, too. In the control each example has Gaussian noise in place of its deformation,
# of the very norm that the deformation's change would have had. What to look for in {numref}`fig-5b-noise`: whether
# the right panel has the order of the left.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two panels of curves over eight filter banks: deformations on the left, noise on the right, with a dotted line in each."}, "figure": {"name": "fig-5b-noise", "caption": "Smoothness of the filter banks after training. Left: deformations of up to C pixels. Right: noise as large as their change. Dotted: before training. Records: left, {glue:text}`fig-5b-note`; right, {glue:text}`fig-5b-noise-note`."}}
panels = {"deformations": after, "noise": noise.banks()}
panels_by_layer(panels, "normalized total variation", dict.fromkeys(panels, before), arm_field="strength", shared=True)

# %% [markdown]
# The right panel's numbers, and how far its filters moved:

# %% tags=["hide-input"]
by_layer(panels["noise"], before)

# %% tags=["hide-input"]
by_layer(noise.banks("change_norm"))

# %% [markdown]
# ### Other digits
#
# Ten classes are ten digits, and these ten may be peculiar. {numref}`fig-5b-others` has two other draws, and a task
# of a hundred classes, which asks for more than which of ten shapes it is.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Three panels of curves over eight filter banks, one for each set of digits."}, "figure": {"name": "fig-5b-others", "caption": "Smoothness of the filter banks after training on a hundred digits and on two other sets of ten. Dotted: before training. Records: {glue:text}`fig-5b-others-note`, of each."}}
variants = {"a hundred": others.only(classes=100), "other ten": others.only(label_seed=1), "another ten": others.only(label_seed=2)}
sets = {title: variant.banks() for title, variant in variants.items()}
panels_by_layer(sets, "normalized total variation", {title: v.banks(checkpoint=0) for title, v in variants.items()}, arm_field="strength", shared=True)

# %% tags=["hide-input"]
pd.concat({title: by_layer(of_set) for title, of_set in sets.items()}, axis=1)
