import vue from "@vitejs/plugin-vue";
import { defineConfig } from "vite";

// The page must run under `script-src 'self'; style-src 'self'`: no inlining of anything but the
// favicon, which `img-src data:` allows.
export default defineConfig({
  plugins: [vue()],
  define: {
    __VUE_OPTIONS_API__: "false",
    __VUE_PROD_DEVTOOLS__: "false",
    __VUE_PROD_HYDRATION_MISMATCH_DETAILS__: "false",
  },
  build: {
    target: "es2023",
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    reportCompressedSize: false,
  },
});
