# %% [markdown]
# # The supervised task
#
# Stability is learned, and smooth filters carry it. But learned from what? A training set has two parts: the images,
# and the labels that somebody gave them. Smooth filters might come from the images alone, whose neighbouring pixels
# are alike whatever one asks about them. Or they might come from the question.
#
# Section 5 of the paper takes the two apart. It keeps the images and replaces each label by a random one, the same in every
# epoch, so that there is nothing to find in an image but which one it is {cite:p}`zhang2017`. What it reports: with random labels the networks no
# longer end alike. Their smoothness depends on the downsampling layer (Figure 6c), so does their stability (Figure 7), hardly on the
# random seed, and the two go together.
#
# Networks that learn 10,000 labels by heart need no more images than those, so this chapter is about a fixed subset
# of the images. Its control is the same subset with its true labels, trained by the same recipe for as many steps.

# %% tags=["parameters"]
mode = "full"

# %% tags=["hide-input"]
from myst_nb import glue

from deformlib.agreement import published
from deformlib.evidence import at_loss, by_layer, collect, final_losses, last_layer, spread
from deformlib.figures import sensitivity_by_layer, smoothness_against_stability, smoothness_by_layer

random, control = collect("cifar10-random-labels", mode), collect("cifar10-subset", mode)
glue("fig-7-note", random.note, display=False)
glue("fig-7-control-note", control.note, display=False)

# %% [markdown]
# ## What was learned
#
# Random labels can be learned by heart and nothing else: training accuracy must be high, test accuracy that of a
# guess, one in ten. *Flips* is the share of test images whose predicted class changes under a deformation.

# %% tags=["hide-input"]
random.accuracies()

# %% [markdown]
# The control, with true labels:

# %% tags=["hide-input"]
control.accuracies()

# %% [markdown]
# ## Stability under random labels
#
# {numref}`fig-7` is the paper's Figure 7. What to look for: whether the arms stay apart where after training on true
# labels ({numref}`fig-7-control`, and {numref}`fig-3d` for all images) they had come together.

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-7", "caption": "Sensitivity to deformation after training on random labels (the paper's Figure 7). Lines: means over seeds, with bands of two standard deviations over seeds where an arm has more than one. Records: {glue:text}`fig-7-note`."}}
end = random.layers()
glue("fig-7-last", last_layer(end), display=False)
sensitivity_by_layer(end)

# %% tags=["hide-input"]
by_layer(end)

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-7-control", "caption": "The control: the same images with their true labels, the same recipe and number of steps. Records: {glue:text}`fig-7-control-note`."}}
control_end = control.layers()
glue("fig-7-control-last", last_layer(control_end), display=False)
sensitivity_by_layer(control_end)

# %% tags=["hide-input"]
by_layer(control_end)

# %% [markdown]
# At the last layer, random labels: {glue:text}`fig-7-last`. True labels: {glue:text}`fig-7-control-last`. The table gives the
# standard deviation between arms, under *before* that of the control, under *after* that of random labels.

# %% tags=["hide-input"]
spread(control_end, end)

# %% [markdown]
# ### At equal training loss
#
# As many steps are not as much learning: true labels are learned sooner. {numref}`fig-7-loss` takes the control
# at the moment when its training loss first fell to what the same arm ends with under random labels.

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-7-loss", "caption": "The control where its training loss equals that at the end of training on random labels, arm by arm. Records: {glue:text}`fig-7-control-note`."}}
same_loss = at_loss(control, final_losses(random))
sensitivity_by_layer(same_loss)

# %% tags=["hide-input"]
by_layer(same_loss)

# %% [markdown]
# ## Smoothness under random labels
#
# {numref}`fig-6c` is the paper's Figure 6c, with the average over kernels that {doc}`04_filter_smoothness` compares
# with the paper.

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-6c", "caption": "Normalized total variation of the filter banks after training on random labels (the paper's Figure 6c); dotted, at initialization. Records: {glue:text}`fig-7-note`."}}
banks = random.banks()
smoothness_by_layer(banks, random.banks(checkpoint=0))

# %% tags=["hide-input"]
by_layer(banks)

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-6c-control", "caption": "The same with true labels. Records: {glue:text}`fig-7-control-note`."}}
control_banks = control.banks()
smoothness_by_layer(control_banks, control.banks(checkpoint=0))

# %% tags=["hide-input"]
by_layer(control_banks)

# %% [markdown]
# ## Do they go together?
#
# The paper says that smoothness under random labels "correlates qualitatively" with stability. {numref}`fig-6c-7` puts
# one against the other: a panel for each convolution, a point for each arm and seed. If smoother filters meant more stable
# representations, the points would rise from left to right.

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-6c-7", "caption": "Sensitivity after each convolution against the normalized total variation of its filters, after training on random labels. Records: {glue:text}`fig-7-note`."}}
smoothness_against_stability(banks, end)
