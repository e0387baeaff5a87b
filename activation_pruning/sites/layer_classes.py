"""Classes of Keras layers that work alike: each list once."""

import keras

_L = keras.layers
CONVOLUTIONS = (_L.Conv1D, _L.Conv2D, _L.Conv3D)
TRANSPOSED = (_L.Conv1DTranspose, _L.Conv2DTranspose, _L.Conv3DTranspose)
DEPTHWISE = (_L.DepthwiseConv1D, _L.DepthwiseConv2D)
SEPARABLE = (_L.SeparableConv1D, _L.SeparableConv2D)
RECURRENT = (_L.LSTM, _L.GRU, _L.SimpleRNN)
CONV_RECURRENT = (_L.ConvLSTM1D, _L.ConvLSTM2D, _L.ConvLSTM3D)
WRAPPERS = (_L.TimeDistributed, _L.Bidirectional)  # which stand in a graph for the layer in them
ACTIVATIONS = (_L.ReLU, _L.LeakyReLU, _L.PReLU, _L.ELU, _L.Softmax)  # that are all of a layer
UNCHANGED = (  # the identity in inference
    _L.Dropout, _L.SpatialDropout1D, _L.SpatialDropout2D, _L.SpatialDropout3D, _L.GaussianDropout,
    _L.GaussianNoise, _L.AlphaDropout, _L.ActivityRegularization, _L.Identity,
)  # fmt: skip
