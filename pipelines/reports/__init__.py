"""Reports: what a snapshot holds, as one HTML file, and a viewer of its clips in the browser. See docs/report.md."""
