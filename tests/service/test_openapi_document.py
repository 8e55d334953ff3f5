from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import response_schema_conformance
from served import serving

import nasplatform.service
from nasplatform.service import PredictorStore, create_app
from nasplatform.service.app import openapi

CHECKED_IN = Path(nasplatform.service.__file__).parent / "openapi.json"


def test_the_document_that_is_checked_in_is_the_applications_own(tmp_path):
    # To bring it up to date: python -m nasplatform.service.app > nasplatform/service/openapi.json
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


OPERATIONS = [
    (method.upper(), path)
    for path, operations in json.loads(CHECKED_IN.read_text())["paths"].items()
    for method in operations
]


@pytest.fixture(scope="module")
def pestered(published, tmp_path_factory):
    """A server of their own for requests that may publish new versions."""
    folder = tmp_path_factory.mktemp("pestered") / "store"
    shutil.copytree(published, folder)
    with serving(PredictorStore(folder)) as running:
        yield running


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_whatever_is_asked_is_answered_as_documented(pestered, method, path):
    schema = schemathesis.openapi.from_url(f"{pestered.url}/openapi.json")
    operation = schema[path][method]

    @settings(
        max_examples=15,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy() | operation.as_strategy(GenerationMode.NEGATIVE))
    def ask(case):
        if "name" in case.path_parameters and len(str(case.path_parameters["name"])) % 2:
            case.path_parameters["name"] = "demo"
        answer = case.call()
        assert answer.status_code < 500 or answer.status_code == 503, answer.text
        if answer.status_code in (400, 404, 405):  # what the framework says of a wrong address
            assert answer.headers["content-type"][0].startswith("application/problem+json")
        else:
            assert str(answer.status_code) in operation.definition.raw["responses"]
            case.validate_response(answer, checks=[response_schema_conformance])

    ask()
