"""What only this modality promises."""

from unite_mm_signals.waves import CLASSES, make_signals, read_beats


def test_the_rules_find_the_class_of_what_is_made():
    values, labels = make_signals(200, 256, seed=7)
    found = [read_beats(signal.numpy())[1] == CLASSES[label] for signal, label in zip(values, labels, strict=True)]
    assert sum(found) > 190


def test_noise_has_no_class_for_sure():
    assert read_beats(0.01 * make_signals(1, 256, seed=0)[0][0].numpy()) == (0.0, "")
