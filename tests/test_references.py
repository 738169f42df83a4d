"""Loss sequences of NEST and of the authors' TensorFlow programs, through the public API, in float64."""

import numpy as np
import pytest

from engrax.papers.eprop_reference import evidence_losses, pattern_losses, published

REFERENCE = published()


@pytest.mark.x64
@pytest.mark.parametrize("evaluation", ["offline", "chunked"])
def test_pattern_losses(evaluation):
    losses, rates = pattern_losses(evaluation)
    reference = REFERENCE["pattern"]
    np.testing.assert_allclose(losses, reference["nest"], rtol=1e-9)
    np.testing.assert_allclose(losses, reference["tensorflow"], rtol=1e-6)
    np.testing.assert_allclose(rates, reference["mean_rates_hz"], atol=0.006)


@pytest.mark.x64
def test_evidence_losses():
    losses, _ = evidence_losses()
    np.testing.assert_allclose(losses, REFERENCE["evidence"]["nest"], rtol=1e-9)
    np.testing.assert_allclose(losses, REFERENCE["evidence"]["tensorflow"], rtol=1e-6)
