from __future__ import annotations

import json
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings

import nasplatform.service
from nasplatform.service import PredictorStore, create_app
from nasplatform.service.app import openapi

CHECKED_IN = Path(nasplatform.service.__file__).parent / "openapi.json"


def test_the_document_that_is_checked_in_is_the_applications_own(tmp_path):
    """To bring it up to date: python -m nasplatform.service.app > nasplatform/service/openapi.json."""
    document = openapi(create_app(PredictorStore(tmp_path)))
    assert json.loads(CHECKED_IN.read_text()) == json.loads(json.dumps(document))


def test_every_reference_leads_somewhere():
    text = CHECKED_IN.read_text()
    known = json.loads(text)["components"]["schemas"]
    for part in text.split('"$ref": "#/components/schemas/')[1:]:
        assert part.partition('"')[0] in known


def test_every_operation_tells_its_problems():
    for operations in json.loads(CHECKED_IN.read_text())["paths"].values():
        for operation in operations.values():
            assert {"200", "401", "429", "503"} <= set(operation["responses"])
            assert operation["summary"]


@pytest.fixture
def api(service):
    return schemathesis.openapi.from_url(f"{service.url}/openapi.json")


schema = schemathesis.pytest.from_fixture("api")


@schema.parametrize()
@settings(
    max_examples=12,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_whatever_is_asked_is_answered_as_documented(case):
    case.call_and_validate(
        checks=[
            schemathesis.checks.not_a_server_error,
            schemathesis.checks.load_all_checks and _as_documented,
        ]
    )


def _as_documented(context, response, case):
    """The answer has the documented status, content type and shape."""
    documented = case.operation.definition.raw["responses"]
    assert str(response.status_code) in documented or response.status_code in (400, 404, 405)
    case.operation.validate_response(response)
