from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from served import BINARY, PREDICT, problem, until

quick = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=15,
)


@quick
@given(
    st.lists(st.integers(0, 423_623), min_size=1, max_size=40), st.sampled_from(["rows", "columns"])
)
def test_the_service_says_what_the_predictor_says(service, fitted, indices, layout):
    cells = fitted.space.enumerate()[np.array(indices)]
    graphs = fitted.space.graphs(cells)
    local = fitted.predictor.predict(graphs)
    texts = [fitted.space.format(cell) for cell in cells]
    body = service.http.post(PREDICT, json={"architectures": texts, "layout": layout}).json()
    if layout == "rows":
        said = {k: [row[k] for row in body["results"]] for k in body["results"][0]}
        assert said["index"] == list(range(len(texts)))
    else:
        said = body["columns"]
    # Single precision gives other last digits in a batch of another size.
    np.testing.assert_allclose(said["mean"], local.mean, rtol=1e-5)
    np.testing.assert_allclose(said["std"], local.std, rtol=1e-3)
    assert said["params"] == graphs.total_params.tolist()
    assert said["flops"] == graphs.total_flops.tolist()
    assert said["hash"] == cells.hashes
    assert (body["predictor"], body["version"], body["count"]) == ("demo", 1, len(texts))


def test_a_bad_item_has_an_error_of_its_own(service):
    items = [
        "[]1",
        "nix",
        5,
        None,
        {"matrix": [[0, 1], [0, 0]], "ops": ["input", "output"]},
        "[3]00/1",
    ]
    body = service.http.post(PREDICT, json={"architectures": items}).json()
    assert [error["index"] for error in body["errors"]] == [1, 2, 3, 5]
    assert ["error" in row for row in body["results"]] == [False, True, True, True, False, True]
    assert body["results"][0]["mean"] == body["results"][4]["mean"]
    assert "no path leads" in body["results"][5]["error"]
    columns = {"architectures": items, "layout": "columns", "include": ["hash"]}
    body = service.http.post(PREDICT, json=columns).json()
    assert set(body["columns"]) == {"mean", "hash"}
    assert [value is None for value in body["columns"]["hash"]] == [0, 1, 1, 1, 0, 1]


def test_plain_text_is_a_line_for_each(service):
    headers = {"content-type": "text/plain; charset=utf-8"}
    answer = service.http.post(
        PREDICT, content="[]1\n[3M]101/10/1\nbad\n", headers=headers, params={"include": "std"}
    )
    as_json = service.http.post(PREDICT, json={"architectures": ["[]1", "[3M]101/10/1"]}).json()
    body = answer.json()
    assert body["columns"]["mean"] == [*(row["mean"] for row in as_json["results"]), None]
    assert set(body["columns"]) == {"mean", "std"}
    wrong = service.http.post(PREDICT, content="[]1", headers=headers, params={"include": "x"})
    assert "include" in problem(wrong, 422, "bad-body")
    assert "byte 1" in problem(
        service.http.post(PREDICT, content=b"a\xff", headers=headers), 422, "bad-body"
    )


@quick
@given(st.lists(st.integers(0, 423_623), max_size=40), st.sampled_from(["", "std", "flops,std"]))
def test_codes_are_answered_in_binary(service, fitted, indices, include):
    cells = fitted.space.enumerate()[np.array(indices, int)]
    codes, headers = cells.codes.astype("<u8").tobytes(), {"content-type": BINARY}
    answer = service.http.post(PREDICT, content=codes, headers=headers, params={"include": include})
    assert answer.headers["content-type"] == BINARY
    names = ["mean", *(name for name in include.split(",") if name)]
    assert answer.headers["x-columns"].split(",") == names
    assert answer.headers["x-version"] == "demo@1"
    table = np.frombuffer(answer.content, "<f8").reshape(len(names), len(cells))
    graphs = fitted.space.graphs(cells)
    local = fitted.predictor.predict(graphs)
    expected = {"mean": local.mean, "std": local.std, "flops": graphs.total_flops}
    for name, column in zip(names, table, strict=True):
        np.testing.assert_allclose(column, expected[name], rtol=1e-3 if name == "std" else 1e-5)


def test_codes_that_are_no_cells_have_errors_of_their_own(service, fitted):
    good = fitted.space.parse("[3M]101/10/1").code
    unpruned = fitted.space.parse("[]1").code | 1 << 21  # an operation without edges
    body = np.array([good, 1 << 63, 0, unpruned, good], "<u8").tobytes()
    headers = {"content-type": BINARY}
    table = np.frombuffer(service.http.post(PREDICT, content=body, headers=headers).content, "<f8")
    names = ["mean", "std", "rank", "params", "flops"]
    assert table.size == len(names) * 5
    assert np.isnan(table.reshape(-1, 5)[0]).tolist() == [False, True, True, True, False]
    options = {"layout": "rows", "include": "hash"}
    rows = service.http.post(PREDICT, content=body, headers=headers, params=options).json()
    assert rows["results"][0]["hash"] == fitted.space.parse("[3M]101/10/1").hash
    assert "code 0 is no architecture of nasbench101" in rows["results"][2]["error"]


def test_binary_bodies_are_told_what_is_wrong(service):
    headers = {"content-type": BINARY}
    for body, options, words in [
        (b"1234567", {}, "has 7 bytes"),
        (bytes(8), {"include": "hash"}, "leave 'hash' out"),
        (bytes(8), {"layout": "x"}, "layout"),
        (bytes(8), {"include": "mean"}, "include"),
    ]:
        answer = service.http.post(PREDICT, content=body, headers=headers, params=options)
        assert words in problem(answer, 422, "bad-body")
    as_json = {"architectures": [], "layout": "binary"}
    assert "leave 'hash' out" in problem(service.http.post(PREDICT, json=as_json), 422, "bad-body")
    many = np.zeros(50_001, "<u8").tobytes()
    answer = service.http.post(PREDICT, content=many, headers=headers)
    assert "50,001 architectures given" in problem(answer, 413, "too-many-items")


def test_nothing_is_asked_nothing_is_said(service):
    body = service.http.post(PREDICT, json={"architectures": []}).json()
    assert (body["count"], body["results"], body["errors"]) == (0, [], [])


def test_ranks_come_when_the_space_is_ranked(service, fitted):
    until(lambda: service.http.get("/v1/predictors/demo").json()["view"]["done"] == 2000)
    body = service.http.post(PREDICT, json={"architectures": fitted.labels.texts}).json()
    assert body["ranked_of"] == 2000
    rows = sorted(body["results"], key=lambda row: (row["rank"], -row["mean"]))
    assert all(1 <= row["rank"] <= 2001 for row in rows)
    means = [row["mean"] for row in rows]
    assert means == sorted(means, reverse=True)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "no JSON: "),
        (b"", "no JSON: "),
        (b"[]", "expected keys and values"),
        (b"{}", "architectures: this key is required"),
        (b'{"architectures": "[]1"}', "architectures: expected a list, got '[]1'"),
        (b'{"architectures": [], "kappa": 1}', "kappa: this key is not known"),
        (b'{"architectures": [], "include": ["x"]}', "include.0"),
        (b'{"architectures": [], "layout": 3}', "layout"),
        (b'{"architectures": ["\xff"]}', "no JSON: "),
        (b'{"architectures": ' + b"[" * 100_000, "no JSON: "),
    ],
)
def test_a_bad_body_is_told_with_its_place(service, body, words):
    answer = service.http.post(PREDICT, content=body, headers={"content-type": "application/json"})
    assert words in problem(answer, 422, "bad-body")


def test_nan_and_unicode_are_bad_items_and_no_more(service):
    body = (
        '{"architectures": [NaN, Infinity, "\\u00e9\U0001f600", "\\u0000", "' + "x" * 5000 + '"]}'
    )
    answer = service.http.post(
        PREDICT, content=body.encode(), headers={"content-type": "application/json"}
    )
    assert len(answer.json()["errors"]) == 5
    rows = answer.json()["results"]
    assert all(len(row["error"]) < 300 for row in rows)


@pytest.mark.parametrize("kind", ["application/xml", "multipart/form-data", "", "text/html"])
def test_another_content_type_is_refused_by_name(service, kind):
    answer = service.http.post(PREDICT, content=b"{}", headers={"content-type": kind})
    assert "send application/json" in problem(answer, 415, "unsupported-media-type")


@pytest.mark.parametrize(
    "name",
    ["nix", "demo@2", "demo@", "demo@latest@1", "%2e%2e", "demo%2F1", "..%2Fdemo", "%00", "é"],
)
def test_an_unknown_predictor_is_404(service, name):
    if name == "demo@":
        assert service.http.get("/v1/predictors/demo@").json()["version"] == 1
        return
    answer = service.http.post(f"/v1/predictors/{name}/predict", json={"architectures": []})
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_an_unknown_path_or_method_is_a_problem(service):
    assert "/v1/nix" in problem(service.http.get("/v1/nix"), 404, "not-found")
    assert "DELETE" in problem(
        service.http.delete("/v1/predictors/demo"), 405, "method-not-allowed"
    )
    assert service.http.get("/static/../app.py").status_code == 404
    assert service.http.get("/static/%2e%2e/app.py").status_code == 404


@quick
@given(json_values)
def test_no_body_breaks_the_service(service, value):
    for path in ("predict", "suggest", "evaluations", "explain"):
        body = (
            json.dumps(value) if not isinstance(value, dict) else json.dumps({"k": value, **value})
        )
        answer = service.http.post(
            f"/v1/predictors/demo/{path}",
            content=body.encode("utf-8", "surrogatepass"),
            headers={"content-type": "application/json"},
        )
        assert answer.status_code < 500, answer.text


@quick
@given(st.lists(json_values, max_size=8))
def test_no_item_breaks_a_batch(service, items):
    answer = service.http.post(
        PREDICT,
        content=json.dumps({"architectures": [*items, "[]1"]}).encode(),
        headers={"content-type": "application/json"},
    )
    if answer.status_code == 422:  # half of a surrogate pair is no JSON text
        assert "Invalid JSON" in answer.json()["detail"]
        return
    assert answer.status_code == 200
    assert answer.json()["results"][-1]["mean"] is not None
    assert len(answer.json()["errors"]) == len(items)


def test_suggestions_are_unseen_and_within_limits(service, fitted):
    until(lambda: service.http.get("/v1/predictors/demo").json()["view"]["ready"])
    path = "/v1/predictors/demo/suggest"
    found = service.http.post(path, json={"k": 7, "max_params": 10_000_000}).json()
    rows = found["suggestions"]
    assert len(rows) == 7
    known = {fitted.space.parse(text).hash for text in fitted.labels.texts}
    assert all(row["params"] <= 10_000_000 and row["hash"] not in known for row in rows)
    assert [row["mean"] for row in rows] == sorted((row["mean"] for row in rows), reverse=True)
    excluded = [rows[0]["architecture"], "nix"]
    again = service.http.post(
        path, json={"k": 6, "max_params": 10_000_000, "exclude": excluded}
    ).json()
    assert again["suggestions"][0]["hash"] != rows[0]["hash"]
    assert [error["index"] for error in again["errors"]] == [1]
    assert service.http.post(path, json={"max_flops": 0}).json()["suggestions"] == []
    assert "k" in problem(service.http.post(path, json={"k": 0}), 422, "bad-body")


@pytest.mark.parametrize("given", [True, "0.5"])
def test_a_truth_or_a_text_is_no_number(service, given):
    base, measured = "/v1/predictors/demo", {"architecture": "[]1", "score": given}
    answer = service.http.post(f"{base}/evaluations", json={"evaluations": [measured]})
    assert "evaluations.0.score: expected a number, got" in problem(answer, 422, "bad-body")
    for key in ("k", "max_params", "max_flops", "kappa"):
        answer = service.http.post(f"{base}/suggest", json={key: given})
        assert f"{key}: expected a number, got" in problem(answer, 422, "bad-body")


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("suggest", '{"k": 3, "k": 3}', "key 'k' stands twice"),
        ("predict", '{"architectures": [{"ops": [], "ops": []}]}', "key 'ops' stands twice"),
        ("suggest", '{"max_parameters": 3}', "max_parameters: this key is not known; did you mean"),
        ("predict", '{"architectures": [], "include": ["parameters"]}', "; did you mean 'params'?"),
    ],
)
def test_another_key_or_the_same_key_again_is_named(service, path, body, words):
    headers = {"content-type": "application/json"}
    answer = service.http.post(f"/v1/predictors/demo/{path}", content=body, headers=headers)
    assert words in problem(answer, 422, "bad-body")


def test_an_architecture_is_explained_and_composed(service, fitted):
    path = "/v1/predictors/demo/explain"
    shown = service.http.post(path, json={"architecture": "[3M]101/10/1"}).json()
    assert [node["kind"] for node in shown["nodes"]] == ["input", "conv", "pool", "output"]
    assert shown["edges"] == [[0, 1], [0, 3], [1, 2], [2, 3]]
    again = service.http.post(path, json={"params": shown["params"]}).json()
    assert again == shown
    decisions = service.http.get("/v1/predictors/demo/decisions").json()["decisions"]
    assert {decision["name"] for decision in decisions} == set(shown["params"])
    bad = {**shown["params"], "op_1": "nix"}
    assert "op_1" in problem(service.http.post(path, json={"params": bad}), 422, "bad-body")
    assert "missing" in problem(service.http.post(path, json={"params": {}}), 422, "bad-body")
    assert "either" in problem(service.http.post(path, json={}), 422, "bad-body")
    assert "expected" in problem(
        service.http.post(path, json={"architecture": "nix"}), 422, "bad-body"
    )


def test_the_space_is_drawn(service):
    until(lambda: service.http.get("/v1/predictors/demo/space").status_code == 200)
    picture = service.http.get("/v1/predictors/demo/space").json()
    assert sum(picture["counts"]) == picture["size"]
    assert picture["front"]["mean"] == sorted(picture["front"]["mean"])


def test_a_card_tells_where_a_predictor_comes_from(service):
    (card,) = service.http.get("/v1/predictors").json()["predictors"]
    assert (card["name"], card["version"], card["method"]) == ("demo", 1, "renas")
    assert card["space"]["name"] == "nasbench101"
    assert card["refittable"]
    assert card == service.http.get("/v1/predictors/demo@1").json() | {"view": card["view"]}


def test_the_open_inference_protocol_says_the_same(service):
    assert service.http.get("/v2/health/live").json() == {"live": True}
    assert service.http.get("/v2/health/ready").json() == {"ready": True}
    assert service.http.get("/v2").json()["name"] == "nasplatform"
    described = service.http.get("/v2/models/demo").json()
    assert described["inputs"] == [{"name": "architecture", "datatype": "BYTES", "shape": [-1]}]
    assert service.http.get("/v2/models/demo/versions/1/ready").json()["ready"]
    texts = ["[]1", "[3M]101/10/1"]
    tensor = {"name": "architecture", "datatype": "BYTES", "shape": [2], "data": texts}
    body = {"id": "7", "inputs": [tensor], "outputs": [{"name": "std"}, {"name": "flops"}]}
    said = service.http.post("/v2/models/demo/versions/1/infer", json=body).json()
    assert (said["id"], said["model_name"], said["model_version"]) == ("7", "demo", "1")
    rows = service.http.post(PREDICT, json={"architectures": texts}).json()["results"]
    by_name = {output["name"]: output for output in said["outputs"]}
    assert list(by_name) == ["std", "flops"]
    np.testing.assert_allclose(by_name["std"]["data"], [row["std"] for row in rows], rtol=1e-4)
    assert by_name["flops"]["data"] == [row["flops"] for row in rows]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shape": [3]}, "shape [3] has 3 items, data has 2"),
        ({"data": ["[]1", "nix"]}, "inputs.0.data.1: expected"),
        ({"data": ["[]1", 5]}, "inputs.0.data.1: expected a string"),
        ({"datatype": "FP32"}, "datatype"),
        ({"shape": [-2]}, "shape"),
    ],
)
def test_the_open_inference_protocol_names_what_is_wrong(service, change, words):
    tensor = {"name": "architecture", "datatype": "BYTES", "shape": [2], "data": ["[]1", "[]1"]}
    answer = service.http.post("/v2/models/demo/infer", json={"inputs": [{**tensor, **change}]})
    assert words in problem(answer, 422, "bad-body")
    assert answer.json()["error"] == answer.json()["detail"]


def test_metrics_count_what_happened(service):
    service.http.post(PREDICT, json={"architectures": ["[]1"] * 3})
    text = service.http.get("/metrics").text
    assert (
        'nasplatform_requests_total{code="200",endpoint="POST /v1/predictors/{name}/predict"}'
        in text
    )
    assert 'nasplatform_model_info{model="demo",version="1"} 1.0' in text
    counts = [line for line in text.splitlines() if line.startswith("nasplatform_batch_size_count")]
    assert float(counts[0].split()[1]) > 0


def test_a_request_keeps_its_id(service):
    assert (
        service.http.get("/v2", headers={"x-request-id": "mine-1"}).headers["x-request-id"]
        == "mine-1"
    )
    bad = service.http.get("/v2", headers={"x-request-id": "no spaces"}).headers["x-request-id"]
    assert bad != "no spaces"


def test_pages_come_from_here_alone(service):
    for path in ("/", "/docs"):
        answer = service.http.get(path)
        assert answer.status_code == 200
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert "http://" not in answer.text.replace("http://www.w3.org/", "")
        assert "https://" not in answer.text


@quick
@given(st.binary(max_size=100), st.sampled_from(["text/plain", BINARY]), st.text(max_size=12))
def test_no_compact_body_breaks_the_service(service, body, kind, option):
    for options in ({}, {"include": option}, {"layout": option}):
        answer = service.http.post(
            PREDICT, content=body, headers={"content-type": kind}, params=options
        )
        assert answer.status_code in (200, 422), answer.text
