"""Writes demo/llama_perplexity.json: llama.cpp's perplexity of the demo model on the three golden texts.
usage: make_llama_perplexity.py LLAMA_PERPLEXITY MODEL.gguf     (the first: llama.cpp's program, from the source package of
llama-cpp-python 0.3.36)"""
import json
import os
import re
import subprocess
import sys

WINDOW = 256  # The program wants a text of two windows at least.


def main():
    program, model = sys.argv[1:]
    here = os.path.dirname(os.path.abspath(__file__))
    demo = os.path.join(here, "demo")
    perplexity = {}
    for name in ("prose", "code", "mixed"):
        with open(os.path.join(demo, f"{name}.json")) as file:
            golden = json.load(file)
        out = subprocess.run([program, "-m", model, "-f", os.path.join(here, "texts", f"{name}.txt"), "-c", str(WINDOW),
                              "-b", str(WINDOW), "-t", "2"], capture_output=True, text=True, check=True)
        printed = out.stdout + out.stderr
        windows = int(re.search(r"calculating perplexity over (\d+) chunks", printed)[1])
        assert windows == len(golden["ids"]) // WINDOW, "its tokenizer splits the text in another way"
        perplexity[name] = float(re.search(r"Final estimate: PPL = ([0-9.]+)", printed)[1])
    with open(os.path.join(demo, "llama_perplexity.json"), "w") as file:
        json.dump({"window": WINDOW, "perplexity": perplexity}, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
