import numpy as np
from absl.testing import absltest, parameterized

from csml_tf import value_rules
from csml_tf.errors import InputError
from csml_tf.value_rules import (
    above,
    at_least,
    each,
    fields,
    number,
    one_of,
    or_none,
    several,
    table,
    text,
    truth,
    whole,
)

NAN, INFINITE = float("nan"), float("inf")


class RulesTest(parameterized.TestCase):
    @parameterized.parameters(
        (whole(1), [1, 2**31 - 1, np.int64(3)], [0, -1, 2**31, 10**400, True, 1.0, "1", None, NAN]),
        (whole(0, 5), [0, 5], [6, -1]),
        (above(0), [1e-30, 1, 1e30, np.float32(0.5)], [0, -0.1, NAN, INFINITE, 10**400, True, "1"]),
        (above(0, 1), [1, 0.5], [1.001, 0]),
        (at_least(0, 1), [0, 1, 0.5], [-1e-9, 1.1, NAN, None, (0,)]),
        (truth(), [True, False], [0, 1, "True", None]),
        (text(), ["a", "ü"], ["", 1, None, b"a", "\udcff"]),
        (one_of([18, 50]), [18], ["18", 18.0, 19, None]),
        (one_of(["host"]), ["host"], ["Host", True]),
        (several(2, at_least(0)), [(0, 1), [0.5, 0]], [(1,), (1, 2, 3), (1, -1), "12", 1, None]),
        (table(one_of(["a"]), above(0)), [{"a": 1}], [{}, {"b": 1}, {"a": 0}, [("a", 1)]]),
        (number(), [1, NAN, -INFINITE], [True, "1", None]),
        (each(number()), [[], [1, 2]], [(1,), ["a"], None]),
        (fields({"a": text()}), [{"a": "x", "b": 1}], [{}, {"a": 1}, [], "a"]),
        (or_none(whole(0)), [None, 0], [-1, ""]),
    )
    def test_takes_and_refuses(self, rule, good, bad):
        for value in good:
            self.assertIsNone(rule(value), value)
        for value in bad:
            self.assertIsNotNone(rule(value), value)

    @parameterized.parameters(
        ("8", whole(1), "X must be a whole number from 1, got '8': write 8."),
        (2.0, whole(1), "X must be a whole number from 1, got 2.0: write 2."),
        ("0.1", above(0), "X must be a number above 0, got '0.1': write 0.1."),
        ("True", truth(), "X must be True or False, got 'True': write True."),
        ("18", one_of([18, 50]), "X must be one of 18, 50, got '18': write 18."),
        ("nan", above(0), "X must be a number above 0, got 'nan': mend the value."),
        ("-1", whole(0), "X must be a whole number from 0, got '-1': mend the value."),
        (1.5, whole(1), "X must be a whole number from 1, got 1.5: mend the value."),
    )
    def test_sentence(self, value, rule, sentence):
        with self.assertRaises(InputError) as caught:
            value_rules.check("X", value, rule)
        self.assertEqual(str(caught.exception), sentence)


if __name__ == "__main__":
    absltest.main()
