// Runs before the first paint: resolves the theme "auto" to what the system prefers, and follows it.
const root = document.documentElement;
const dark = matchMedia("(prefers-color-scheme: dark)");
const apply = () => {
  const theme = root.dataset.theme;
  root.dataset.bsTheme = theme === "auto" ? (dark.matches ? "dark" : "light") : theme;
};
apply();
dark.addEventListener("change", apply);
document.addEventListener("countersign:theme", apply);
