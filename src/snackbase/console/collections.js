// What the collections look like to whoever is signed in.
//
// Superadmins read the definitions. Everybody else reads /openapi.json, which describes the records of each collection as
// far as the rules could ever let them.

const RECORDS = /^\/api\/v1\/records\/(\w+)$/;
export const SYSTEM_FIELDS = ["id", "created_at", "created_by", "updated_at", "updated_by"];
export const TYPES = ["text", "number", "boolean", "datetime", "date", "email", "url", "select", "json", "reference"];
export const RULES = ["list", "view", "create", "update", "delete"];

/**
 * @typedef {{ name: string, type: string, required: boolean, default?: any, options?: string[] | null,
 *   collection?: string | null }} Field
 * @typedef {{ name: string, fields: Field[], columns: string[], may: Record<string, boolean>, definition: any }} Collection
 *   columns: the fields that a list shows, system fields included.
 */

/** @returns {Promise<Collection[]>} by name */
export async function collectionsOf(session) {
  if (session.superadmin) {
    const { items } = await session.call("GET", "/collections");
    return items.map((one) => ({
      name: one.name,
      fields: one.schema,
      columns: ["id", ...one.schema.map((field) => field.name), ...SYSTEM_FIELDS.slice(1)],
      may: { list: true, create: true, update: true, delete: true },
      definition: one,
    }));
  }
  // It lies beside /api/v1, below which the client's calls are.
  const document = await session.call("GET", "/../../openapi.json");
  const found = Object.keys(document.paths).map((path) => RECORDS.exec(path)?.[1]);
  return found
    .filter((name) => name !== undefined && `${name}.New` in document.components.schemas)
    .sort()
    .map((name) => described(document, name));
}

function described({ paths, components }, name) {
  const path = `/api/v1/records/${name}`;
  const one = paths[`${path}/{record_id}`] ?? {};
  const { New: sent, Listed: listed } = Object.fromEntries(
    ["New", "Listed"].map((kind) => [kind, components.schemas[`${name}.${kind}`]]),
  );
  const { id: _, ...fields } = sent.properties;
  return {
    name,
    fields: Object.entries(fields).map(([field, schema]) => ({
      name: field,
      type: typeOf(schema),
      required: sent.required.includes(field) || !nullable(schema),
      default: schema.default,
      options: schema.enum?.filter((value) => value !== null) ?? null,
      collection: null,
    })),
    columns: Object.keys(listed.properties).filter((column) => column !== "expand" && column !== "account_id"),
    may: {
      list: paths[path]?.get !== undefined,
      create: paths[path]?.post !== undefined,
      update: one.patch !== undefined,
      delete: one.delete !== undefined,
    },
    definition: null,
  };
}

const FORMATS = { email: "email", uri: "url", "date-time": "datetime", date: "date", uuid: "reference" };

function typeOf(schema) {
  if (schema.enum) return "select";
  const type = [schema.type].flat().find((word) => word !== "null");
  if (type === undefined) return "json";
  return FORMATS[schema.format] ?? (type === "string" ? "text" : type);
}

function nullable(schema) {
  return schema.enum ? schema.enum.includes(null) : schema.type === undefined || [schema.type].flat().includes("null");
}

/** The collection of this name, or an error that says so. */
export async function collectionNamed(session, name) {
  const found = (await session.collections()).find((one) => one.name === name);
  if (!found) throw new Error(`There is no collection ${name}, or nothing of it that you may use.`);
  return found;
}

/** A value as a line of text. */
export function textOf(value) {
  const text = typeof value === "object" ? JSON.stringify(value) : String(value);
  return text.length > 300 ? `${text.slice(0, 300)}…` : text;
}
