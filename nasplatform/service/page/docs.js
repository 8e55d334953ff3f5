// The API as its OpenAPI document describes it, readable without a network.

const element = (name, text, className = "") => Object.assign(document.createElement(name), { textContent: text, className });

function expand(schema, known, depth = 0) {
  if (!schema || depth > 6) return "…";
  if (schema.$ref) return expand(known[schema.$ref.split("/").pop()], known, depth + 1);
  if (schema.const !== undefined) return schema.const;
  if (schema.enum) return schema.enum.join(" | ");
  const either = schema.anyOf || schema.oneOf;
  if (either) return expand(either.find((s) => s.type !== "null"), known, depth + 1);
  if (schema.type === "array") return [schema.prefixItems ? "…" : expand(schema.items, known, depth + 1)];
  if (schema.properties) {
    const shown = Object.entries(schema.properties).map(([k, v]) => [k, expand(v, known, depth + 1)]);
    return Object.fromEntries(shown);
  }
  if (schema.examples) return schema.examples[0];
  return schema.description ? `${schema.type || "any"}: ${schema.description}` : schema.type || "any";
}

function operationOf(path, method, operation, known) {
  const box = element("details", "", "operation"), head = document.createElement("summary");
  head.append(element("span", method.toUpperCase(), "method"), element("code", path), ` ${operation.summary || ""}`);
  box.append(head, element("p", operation.description || ""));
  for (const [title, content] of [
    ["Body", operation.requestBody?.content],
    ["Answer", operation.responses["200"]?.content],
  ]) {
    for (const [type, { schema }] of Object.entries(content || {})) {
      box.append(element("h3", `${title}, ${type}`), element("pre", JSON.stringify(expand(schema, known), null, 2)));
    }
  }
  const problems = Object.keys(operation.responses).filter((code) => code !== "200");
  box.append(element("p", `Problems (application/problem+json): ${problems.join(", ")}`, "quiet"));
  return box;
}

const openapi = await (await fetch("/openapi.json")).json();
document.getElementById("about").textContent = openapi.info.description;
const sections = new Map();
for (const [path, operations] of Object.entries(openapi.paths)) {
  for (const [method, operation] of Object.entries(operations)) {
    const tag = operation.tags?.[0] || "other";
    if (!sections.has(tag)) {
      const section = document.createElement("section");
      section.append(element("h2", tag));
      sections.set(tag, section);
    }
    sections.get(tag).append(operationOf(path, method, operation, openapi.components.schemas));
  }
}
document.getElementById("operations").append(...sections.values());
