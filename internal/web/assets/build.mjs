// Bundles the pages' style, scripts, fonts and icons into dist/, which the Go program embeds. Run by `make build`.
import { copyFile, readFile, rm, writeFile, readdir } from "node:fs/promises";
import { build } from "esbuild";

// The icons that the pages use, by their names in Bootstrap Icons. A name that does not exist fails the build.
const icons = [
  "arrow-repeat", "box-seam", "boxes", "broadcast", "check-circle", "check-lg", "chevron-right", "circle-half", "clipboard", "clock",
  "cloud-upload", "dash-circle", "download", "exclamation-triangle", "file-earmark", "file-earmark-zip", "git", "hourglass-split",
  "inbox", "key", "list-ul", "moon", "patch-check", "pen", "person", "person-check", "plus-lg", "printer",
  "send", "shield-check", "slash-circle", "speedometer2",
  "sun", "trash", "x-circle", "x-lg",
];

for (const name of await readdir("dist")) {
  if (name !== "README") await rm(`dist/${name}`, { recursive: true });
}

await build({
  entryPoints: ["src/app.css", "src/app.js", "src/theme.js"],
  outdir: "dist",
  bundle: true,
  minify: true,
  target: ["es2022", "chrome109", "firefox115", "safari16.4"],
  loader: { ".woff2": "file" },
  assetNames: "[name]",
  legalComments: "linked",
  logLevel: "warning",
});

const symbols = await Promise.all(icons.map(async (name) => {
  const svg = await readFile(`node_modules/bootstrap-icons/icons/${name}.svg`, "utf8");
  const [, viewBox, paths] = /viewBox="([^"]+)"[^>]*>([\s\S]*)<\/svg>/.exec(svg);
  return `<symbol id="${name}" viewBox="${viewBox}">${paths.replace(/\s*\n\s*/g, "")}</symbol>`;
}));
await writeFile("dist/icons.svg", `<svg xmlns="http://www.w3.org/2000/svg">${symbols.join("")}</svg>\n`);
await copyFile("src/icon.svg", "dist/icon.svg");
