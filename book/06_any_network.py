# %% [markdown]
# # Any network
#
# Nothing in the measure knows about VGG. It needs images, a deformation, and representations; so it can be
# taken of any network. This chapter takes it of three that are in wide use and differ in all that this book has held
# fixed: ResNet-18 {cite:p}`he2016`, with shortcuts around its convolutions; ConvNeXt-Tiny {cite:p}`liu2022`, whose filters are 7x7, each over a
# single channel; and ViT-B/16 {cite:p}`dosovitskiy2021`, which has no convolutions but the one that cuts the image into patches
# of 16x16 pixels, and no downsampling after it.
#
# All three are untrained: torchvision's own initialization, one seed. Trained weights are {ref}`one parameter away <trained-weights>`.

# %% tags=["parameters"]
mode = "full"
seed = 0
images = 16  # of 224x224 pixels; 8 in quick mode
weights = None  # or "IMAGENET1K_V1": trained ones, which torchvision downloads

# %% tags=["hide-input"]
import pandas as pd
import torch
import torchvision
from myst_nb import glue

from deformlib import Deformation, deform, distances, sensitivity, smoothness, visit
from deformlib.seeding import stream
from reproduction.experiments.photos import crops
from reproduction.pages.figures import sensitivity_by_depth

glue("any-weights", f"with the weights {weights}" if weights else "untrained", display=False)

# %% [markdown]
# ## Five lines
#
# Layers are asked for by name, as in `model.named_modules()`, or by a pattern of names; `"layer?.?"` stands for the
# eight blocks of the ResNet. Without a list, the input and every module that has no others inside are measured. The
# network may be in training mode, frozen or compiled, and `sensitivity` leaves it as it was found.

# %%
clean = crops(images if mode == "full" else 8)  # (N, 3, 224, 224) in [0, 1]
deformed = deform(clean, Deformation.IMAGENET, generator=stream(seed, "any network"))
if weights:
    normalize = torchvision.transforms.Normalize(
        mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]
    )
    clean, deformed = normalize(clean), normalize(deformed)
torch.manual_seed(seed)
resnet = torchvision.models.resnet18(weights=weights)
wanted = ["input", "conv1", "layer?.?", "avgpool", "fc"]
pd.Series(sensitivity(resnet, clean, deformed, wanted)).round(2)

# %% [markdown]
# `deform` displaces 5x5 control points by up to 10 px, as the paper does for ImageNet. The images are squares cut out of the
# public-domain photographs that quick mode trains on. There are five photographs, so some pairs of images show parts of the same
# scene, which makes the median distance between images smaller than it would be on ImageNet. The numbers below
# compare networks with each other, and not with {doc}`03_learned_stability`.
#
# Sensitivity is a mean over images, divided by how far apart images are. `distances` gives what is averaged, image by
# image, and with gradients, for whoever wants to train for stability; `visit` gives anything else that can be computed
# from a representation, while the network runs. It runs the network as it is, so one in training mode is to be put in
# eval mode first, or batch norm learns from the pass.

# %%
with torch.no_grad():
    moved = distances(resnet, clean[:8], deformed[:8], ["layer4.1", "avgpool"])  # {layer: (N,)}
pd.DataFrame(moved).describe().loc[["min", "50%", "max"]].round(4)

# %%
visit(resnet.eval(), clean[:2], ["conv1", "layer?.1"], lambda r: tuple(r.shape))

# %% [markdown]
# ## Three architectures

# %%
layers = {
    "resnet18": ["input", "conv1", "layer?.?", "avgpool"],
    "convnext_tiny": ["input", "features.?.?", "avgpool"],
    "vit_b_16": [
        "input",
        "conv_proj",
        "encoder.layers.encoder_layer_?",
        "encoder.layers.encoder_layer_??",
        "encoder.ln",
    ],
}

# %% tags=["hide-input"]
found, smooth = {}, {}
for name, wanted in layers.items():
    torch.manual_seed(seed)
    network = torchvision.models.get_model(name, weights=weights)
    found[name] = pd.Series(sensitivity(network, clean, deformed, wanted))
    smooth[name] = pd.Series(smoothness(network, "kernel"))

# %% [markdown]
# {numref}`fig-any` puts each network's layers on one axis from the image, 0, to the last one before the classifier, 1.
# What to look for: which networks become more stable with depth before they have learned anything, and where.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Three curves of sensitivity over depth, of ResNet-18, ConvNeXt-Tiny and ViT-B/16, which begin at the same value."}, "figure": {"name": "fig-any", "caption": "Sensitivity to deformation of three networks, {glue:text}`any-weights`, on squares of 224x224 pixels out of five photographs (16 in full mode, 8 in quick mode), one seed each, over their blocks. The last point of ResNet-18 and ConvNeXt-Tiny is the global average pool, that of ViT-B/16 the last layer norm."}}
sensitivity_by_depth(found)

# %% tags=["hide-input"]
pd.concat(
    {
        name: values.round(2).astype(str).rename_axis("layer").reset_index(name="sensitivity")
        for name, values in found.items()
    },
    axis=1,
).fillna("")

# %% [markdown]
# In full mode, with one seed, the blocks of an untrained ResNet-18 are about as stable as the image, from the first to
# the last. ConvNeXt-Tiny jumps at `features.0.1`, a layer norm, which takes the mean over channels away at every
# position; {doc}`03_learned_stability` saw the same with batch norm, once it centred. Smaller steps follow at its
# downsampling layers, each of which begins with another layer norm. Between them nothing happens, because its blocks
# begin as the identity: torchvision scales what they add by one millionth. ViT-B/16 becomes slowly more stable over its
# blocks, from 0.15 to 0.11, presumably because its attention, not knowing yet where to look, averages over positions.
# In the other two the largest step is the last: averaging over the whole image leaves the ResNet a third of its
# sensitivity and the ConvNeXt a tenth.
#
# Smoothness is a number for each convolution whose kernels are at least 3x3. Independent normal weights of an n x n
# kernel come to $2(n - 1)\sqrt2/n$ before any truncation: 1.89 for 3x3, 2.12 for 4x4, 2.42 for 7x7, 2.65 for 16x16. So
# kernels of different sizes cannot be compared with each other, and each has to be compared with its own beginning.

# %% tags=["hide-input"]
sizes = {
    "conv1": "resnet18",
    "layer1.0.conv1": "resnet18",
    "layer4.1.conv2": "resnet18",
    "features.0.0": "convnext_tiny",
    "features.1.0.block.0": "convnext_tiny",
    "features.7.2.block.0": "convnext_tiny",
    "conv_proj": "vit_b_16",
}
pd.DataFrame(
    [(net, layer, round(smooth[net][layer], 2)) for layer, net in sizes.items()],
    columns=["network", "convolution", "smoothness"],
)

# %% [markdown]
# (trained-weights)=
# ## Trained weights
#
# torchvision downloads them when asked. They are not part of this book, and **this was not run here**; on your machine it is
# this chapter with another parameter:
#
# ```bash
# python -m reproduction book --chapter 06_any_network -p weights=IMAGENET1K_V1 --out trained
# ```
#
# It writes the executed chapter into the folder `trained` and leaves the book alone. What it does is what you would do
# with a network of your own: deform first and normalize after. (This measures squares of five photographs, 16 of them,
# in quick mode 8: enough to see that it runs.) Use a hundred images or more, of different scenes.
#
# ## A network and images of your own
#
# From the command line nothing has to be written. A factory is a function of yours, in a file or a module, that returns the
# network; images are a folder of photographs:
#
# ```bash
# python -m deformlib measure mynetworks.py:resnet --images photos --normalize --layers "layer?.?" fc
# ```
#
# It prints a table, and writes it as CSV with a plot beside it. Where the representations of all images do not fit in
# memory, they go through in batches with the same result (`--batch-size`, or `batch_size` of `sensitivity`), unless a
# layer mixes images. A layer that is passed twice is numbered. One that you name and that is never reached, or whose
# output is several tensors, is an error; where all layers are measured, what cannot be is left out with a warning.
