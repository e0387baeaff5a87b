"""Whatever users hold their data in, the same inputs come out."""

import keras
import numpy as np
import pytest

from activation_pruning.evidence import batches

X = np.arange(20, dtype="float32").reshape(10, 2)
Y = np.arange(10)


def joined(data, **kwargs):
    return np.concatenate([np.asarray(x) for x in batches.inputs_of(data, **kwargs)])


class Pairs(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        return X[4 * index : 4 * index + 4], Y[4 * index : 4 * index + 4]


def _tensorflow_dataset(*arrays):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices(arrays if len(arrays) > 1 else arrays[0]).batch(4)


def _torch_loader():
    torch = pytest.importorskip("torch")
    dataset = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))
    return torch.utils.data.DataLoader(dataset, batch_size=4)


KINDS = {
    "array": lambda: X,
    "x_y": lambda: (X, Y),
    "x_y_weights": lambda: (X, Y, np.ones(10)),
    "tensor": lambda: keras.ops.convert_to_tensor(X),
    "py_dataset": lambda: Pairs(),
    "generator_of_pairs": lambda: ((X[i : i + 4], Y[i : i + 4]) for i in (0, 4, 8)),
    "generator_of_inputs": lambda: (X[i : i + 4] for i in (0, 4, 8)),
    "list_of_pairs": lambda: [(X[:4], Y[:4]), (X[4:], Y[4:])],
    "tf_data_of_pairs": lambda: _tensorflow_dataset(X, Y),
    "tf_data_of_inputs": lambda: _tensorflow_dataset(X),
    "torch_loader": _torch_loader,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data_yields_the_same_inputs(kind):
    np.testing.assert_array_equal(joined(KINDS[kind]()), X)


def test_arrays_are_cut_into_batches_with_a_smaller_last_one():
    assert [len(x) for x in batches.inputs_of(X, batch_size=4)] == [4, 4, 2]
    assert [len(x) for x in batches.inputs_of(X)] == [10]


def test_several_inputs_stay_together():
    for data in ([X, X + 1], ([X, X + 1], Y)):
        parts = list(batches.inputs_of(data, batch_size=6))
        assert [len(part) for part in parts] == [2, 2]
        np.testing.assert_array_equal(parts[1][0], X[6:])
        np.testing.assert_array_equal(parts[1][1], X[6:] + 1)
    for data in ({"a": X, "b": X + 1}, ({"a": X, "b": X + 1}, Y)):
        parts = list(batches.inputs_of(data, batch_size=6))
        np.testing.assert_array_equal(parts[0]["b"], X[:6] + 1)
        np.testing.assert_array_equal(parts[1]["a"], X[6:])


def test_batches_of_several_inputs_stay_together():
    for inputs in ([X, X + 1], (X, X + 1)):
        (batch,) = batches.inputs_of(iter([(inputs, Y)]))
        np.testing.assert_array_equal(batch[1], X + 1)
    (batch,) = batches.inputs_of(iter([({"a": X}, Y)]))
    np.testing.assert_array_equal(batch["a"], X)


@pytest.mark.parametrize("data", [X[:0], (X[:0], Y[:0]), [], iter([]), [X[:0], X[:0]]])
def test_empty_data_raises(data):
    with pytest.raises(ValueError, match="data is empty: give at least one sample"):
        list(batches.inputs_of(data))


@pytest.mark.parametrize("data", [3, "images", None, {}, [[1.0, 2.0], [3.0, 4.0]], {"a": 3}])
def test_other_things_raise_and_say_what_is_allowed(data):
    with pytest.raises(TypeError, match="data must"):
        list(batches.inputs_of(data))


def test_inputs_of_different_lengths_raise():
    with pytest.raises(ValueError, match=r"different lengths: \[9, 10\]"):
        list(batches.inputs_of([X, X[:9]]))


def model_of(*widths):
    inputs = [keras.Input((width,)) for width in widths]
    joined = keras.layers.Concatenate()(inputs) if len(inputs) > 1 else inputs[0]
    return keras.Model(inputs, keras.layers.Dense(1)(joined))


def test_a_list_that_does_not_match_the_inputs_holds_batches():
    lengths = [len(batch) for batch in batches.inputs_of([X[:2], X[2:6]], model=model_of(2))]
    assert lengths == [2, 4]
    both = list(batches.inputs_of([X, X], batch_size=5, model=model_of(2, 2)))
    assert [len(batch) for batch in both] == [2, 2]


@pytest.mark.parametrize("data", [X[:, :1], X[0], [X, Y], X[:, None]])
def test_inputs_that_the_model_does_not_take_raise(data):
    with pytest.raises(ValueError, match=r"where the model takes \(None, 2\); give inputs"):
        list(batches.inputs_of(data, model=model_of(2)))


@pytest.mark.parametrize("data", [(X[:, :1], Y), [(X[0], Y)]])
def test_inputs_beside_labels_are_checked_too(data):
    with pytest.raises(ValueError, match="where the model takes"):
        list(batches.pairs_of(data, model=model_of(2)))


def test_what_keras_adapts_itself_is_let_through():
    one, image = model_of(1), keras.Sequential([keras.Input((None, 4, 1))])
    assert len(list(batches.inputs_of(X[:, 0], model=one))) == 1
    assert len(list(batches.inputs_of(np.zeros((3, 2, 4)), model=image))) == 1
    assert len(list(batches.inputs_of({"b": X, "a": Y}, model=model_of(2, 1)))) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_count_is_the_number_of_batches_or_none(kind):
    batched = len(list(batches.inputs_of(KINDS[kind](), batch_size=4)))
    counted = batches.count(KINDS[kind](), batch_size=4)
    assert counted == (None if "generator" in kind else batched)


def test_count_knows_how_many_inputs_there_are():
    assert batches.count([X, X], 5, model_of(2, 2)) == 2
    assert batches.count([X, X, X], 5, model_of(2)) == 3


def test_a_single_number_is_no_data():
    for data in (np.array(5.0), [np.array(5.0)], (np.array(5.0), np.array(1.0))):
        with pytest.raises(ValueError, match="data holds a single number"):
            joined(data)
    with pytest.raises(ValueError, match="data holds a single number"):
        list(batches.pairs_of((np.array(5.0), np.array(1.0))))


@pytest.mark.parametrize("dtype", [object, str, bytes])
def test_inputs_that_are_no_numbers_are_named(dtype):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    message = r"inputs of dtype .*, where the model takes float32; convert them with np.asarray"
    with pytest.raises(ValueError, match=message):
        joined(X.astype(dtype), model=model)
    with pytest.raises(ValueError, match=message):
        list(batches.pairs_of([(X.astype(dtype), Y)], model=model))
