// Requests to the service, with the key of this tab where one is needed.

export class Trouble extends Error {
  constructor(status, detail, retry) {
    super(detail);
    this.status = status;
    this.retry = retry;
  }
}

export function useKey(key) {
  sessionStorage.setItem("key", key);
}

export async function ask(path, body) {
  const headers = {};
  const key = sessionStorage.getItem("key");
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, {
      method: body === undefined ? "GET" : "POST",
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Trouble(0, "The service cannot be reached.", 0);
  }
  const value = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    const retry = Number(answer.headers.get("Retry-After")) || 0;
    throw new Trouble(answer.status, value.detail || `The service answered ${answer.status}.`, retry);
  }
  return value;
}
