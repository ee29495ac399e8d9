"""The classes of ``ntorch.nn``, by family."""
import importlib

_CLASSES = {
    "module": "Module",
    "container": "ModuleDict ModuleList Sequential",
    "parameters": "ParameterDict ParameterList",
    "linear": "Bilinear Identity LazyLinear Linear",
    "activation": "CELU ELU GELU GLU Hardshrink Hardsigmoid Hardswish Hardtanh LeakyReLU LogSigmoid"
                  " LogSoftmax Mish PReLU ReLU ReLU6 RReLU SELU Sigmoid SiLU Softmax Softmax2d"
                  " Softmin Softplus Softshrink Softsign Tanh Tanhshrink Threshold",
    "attention": "MultiheadAttention",
    "conv": "Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d LazyConv1d"
            " LazyConv2d LazyConv3d LazyConvTranspose1d LazyConvTranspose2d LazyConvTranspose3d",
    "pooling": "AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool1d"
               " AdaptiveMaxPool2d AdaptiveMaxPool3d AvgPool1d AvgPool2d AvgPool3d"
               " FractionalMaxPool2d FractionalMaxPool3d LPPool1d LPPool2d LPPool3d MaxPool1d"
               " MaxPool2d MaxPool3d MaxUnpool1d MaxUnpool2d MaxUnpool3d",
    "batchnorm": "BatchNorm1d BatchNorm2d BatchNorm3d LazyBatchNorm1d LazyBatchNorm2d"
                 " LazyBatchNorm3d SyncBatchNorm",
    "instancenorm": "InstanceNorm1d InstanceNorm2d InstanceNorm3d LazyInstanceNorm1d"
                    " LazyInstanceNorm2d LazyInstanceNorm3d",
    "normalization": "CrossMapLRN2d GroupNorm LayerNorm LocalResponseNorm RMSNorm",
    "dropout": "AlphaDropout Dropout Dropout1d Dropout2d Dropout3d FeatureAlphaDropout",
    "sparse": "Embedding EmbeddingBag",
    "rnn": "GRU LSTM RNN RNNBase",
    "rnn_cells": "GRUCell LSTMCell RNNCell RNNCellBase",
    "transformer": "Transformer TransformerDecoder TransformerDecoderLayer TransformerEncoder"
                   " TransformerEncoderLayer",
    "loss": "BCELoss BCEWithLogitsLoss CosineEmbeddingLoss CrossEntropyLoss CTCLoss GaussianNLLLoss"
            " HingeEmbeddingLoss HuberLoss KLDivLoss L1Loss MarginRankingLoss MSELoss"
            " MultiLabelMarginLoss MultiLabelSoftMarginLoss MultiMarginLoss NLLLoss NLLLoss2d"
            " PoissonNLLLoss SmoothL1Loss SoftMarginLoss TripletMarginLoss"
            " TripletMarginWithDistanceLoss",
    "padding": "CircularPad1d CircularPad2d CircularPad3d ConstantPad1d ConstantPad2d ConstantPad3d"
               " ReflectionPad1d ReflectionPad2d ReflectionPad3d ReplicationPad1d ReplicationPad2d"
               " ReplicationPad3d ZeroPad1d ZeroPad2d ZeroPad3d",
    "simple": "AdaptiveLogSoftmaxWithLoss ChannelShuffle CosineSimilarity Flatten Fold"
              " PairwiseDistance PixelShuffle PixelUnshuffle Unflatten Unfold Upsample"
              " UpsamplingBilinear2d UpsamplingNearest2d",
}
_FILES = ("conversion", "hooks", "lazy", "state", "traversal", "utils")     # hold no layers
HOME = {name: family for family, names in _CLASSES.items() for name in names.split()}


def __getattr__(name):
    if name in _CLASSES or name in _FILES:
        return importlib.import_module(f"{__name__}.{name}")
    family = HOME.get(name)
    if family is None:
        raise AttributeError(f"module 'ntorch.nn.modules' has no attribute '{name}'")
    found = getattr(importlib.import_module(f"{__name__}.{family}"), name)
    globals()[name] = found
    return found


def __dir__():
    return sorted({*globals(), *HOME})


__all__ = list(HOME)
