"""From a captured graph to native code: trace, analysis, loops and back ends."""
