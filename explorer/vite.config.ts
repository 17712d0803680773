import { defineConfig } from "vite";

// One script, one style sheet and the runtime's wasm, under names that do not change: `isthmus explore` copies them, and
// puts them into a single file, by these names.
export default defineConfig({
  base: "./",
  build: {
    outDir: "../src/isthmus/explorer/static",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: false,
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 2000,
    rollupOptions: {
      output: {
        entryFileNames: "assets/explorer.js",
        assetFileNames: ({ names }) => (names[0]?.endsWith(".css") ? "assets/explorer.css" : "assets/[name][extname]"),
        inlineDynamicImports: true,
      },
    },
  },
});
