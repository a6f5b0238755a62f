// The numbers of a pasted CSV, below its header if it has one, without columns of text; the oldest
// row first. serving/text.py does the same.

import { Problem } from "./language.js";

const WITH_COMMAS = /^[+-]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?(e[+-]?\d+)?$/i;
const THOUSANDS = /^[+-]?([1-9]\d{0,2},\d{3}|\d{1,3})$/; // maybe: 1,050
const DATE = /^\d{4}-\d\d-\d\d/;
const HOUR = 3600e3; // that clocks go back
const NAME = /^\s*[\p{L}_][\p{L}\p{N}_]*\s*$/u;

/** {names: of the columns, or null; rows: [[number, …], …]} */
export function parseCsv(text) {
  const lines = text.replace(/^\ufeff/, "").split(/\r\n|\n|\r/);
  const first = lines.find((line) => line.trim()) ?? "";
  const separator = [...";\t|"].find((one) => first.includes(one)) ?? ",";
  const all = lines.map((line, i) => ({ at: i + 1, cells: cut(line, separator) }));
  const found = all.filter(({ cells }) => cells.length > 1 || cells[0] !== "");
  if (!found.length) throw new Problem("emptyCsv");
  const width = found[0].cells.length;
  const uneven = found.find(({ cells }) => cells.length !== width);
  if (uneven) throw new Problem("unevenRow", uneven.at, uneven.cells.length, width);

  // In a column with decimal commas, points are for thousands; where there is one, in others too.
  const places = found[0].cells.map((_, i) => i);
  const fits = places.map((i) => found.map(({ cells }) => WITH_COMMAS.exec(cells[i].trim())));
  const some = fits.map((column) => separator !== "," && column.some((x) => x?.[3]));
  const commas = places.map((i) => some[i] || (some.includes(true) && fits[i].slice(1).every(Boolean)));
  // Beside ";" commas are decimal. Else 1,050 may be a thousand and fifty, if no other says it isn't.
  if (separator !== ";") refuseAmbiguous(places.filter((i) => some[i]).map((i) => cellsBelow(found, i)));
  const number = ({ cells }, i) => {
    if (!commas[i]) return read(cells[i]);
    const fit = WITH_COMMAS.test(cells[i].trim());
    return fit ? read(cells[i].replaceAll(".", "").replace(",", ".")) : null;
  };

  const last = found.at(-1);
  const isNumber = (row, i) => number(row, i) !== null || read(row.cells[i]) !== null;
  const below = found.slice(1);
  const mostly = (i) => 2 * below.filter((row) => isNumber(row, i)).length > below.length;
  const columns = places.filter((i) => isNumber(last, i) || mostly(i)); // the last may lack one
  if (!columns.length) throw new Problem("noNumbers");
  // As in date,101,102.
  const [name, under] = found.map(({ cells }) => cells[0]);
  const named = !columns.includes(0) && found.length > 1 && NAME.test(name) && !NAME.test(under);
  const headed = named || columns.every((i) => number(found[0], i) === null);
  const header = headed ? found.shift().cells : null;
  const dates = places
    .map((i) => found.map(({ cells }) => cells[i].trim()))
    .find((column) => column.length && column.every((one) => DATE.test(one)));
  const late = dates && lateDate(dates);
  if (late) throw new Problem("newestFirst", late);
  const rows = found.map((row) => columns.map((i) => number(row, i)));
  rows.forEach((row, i) => {
    const bad = row.indexOf(null);
    const { at, cells } = found[i];
    if (bad >= 0) throw new Problem("noNumber", at, columns[bad] + 1, cells[columns[bad]]);
  });
  return { names: header && columns.map((i) => header[i].trim()), rows };
}

function cellsBelow(found, i) {
  const cells = found.map((row) => row.cells[i].trim());
  return WITH_COMMAS.test(cells[0]) ? cells : cells.slice(1);
}

/** The first that is more than an hour before the one above, or before it like the one above was. */
function lateDate(dates) {
  let fell = false;
  for (let i = 1; i < dates.length; i++) {
    const by = time(dates[i]) - time(dates[i - 1]);
    if (by < -HOUR || (by < 0 && fell)) return dates[i];
    fell = by < 0;
  }
  return null;
}

function time(date) {
  const whole = date.replace(" ", "T");
  const found = Date.parse(/T[\d:.]+$/.test(whole) ? `${whole}Z` : whole);
  return Number.isNaN(found) ? Date.parse(date.slice(0, 10)) : found;
}

function refuseAmbiguous(columns) {
  if (!columns.every((cells) => cells.every((cell) => THOUSANDS.test(cell)))) return;
  const asked = columns.flat().find((cell) => cell.includes(","));
  if (asked) throw new Problem("ambiguous", asked);
}

/** A line's cells; one in quotation marks may hold the separator. */
function cut(line, separator) {
  const cells = [""];
  let quoted = false;
  for (let i = 0; i < line.length; i++) {
    if (line[i] === '"' && quoted && line[i + 1] === '"') cells[cells.length - 1] += line[++i];
    else if (line[i] === '"' && (quoted || !cells.at(-1))) quoted = !quoted;
    else if (line[i] === separator && !quoted) cells.push("");
    else cells[cells.length - 1] += line[i];
  }
  return cells;
}

function read(cell) {
  const isNumber = /^\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*$/i.test(cell);
  return isNumber && Number.isFinite(Number(cell)) ? Number(cell) : null;
}

/** Rows below a header, as CSV. */
export function writeCsv(names, rows) {
  const quoted = names.map((name) => (/[",\n]/.test(name) ? `"${name.replaceAll('"', '""')}"` : name));
  return [quoted, ...rows].map((cells) => cells.join(",")).join("\n") + "\n";
}
