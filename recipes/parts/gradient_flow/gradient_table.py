"""What `recipes/gradient_flow.py` found, as tables."""


def markdown(found: dict) -> str:
    """The numbers that the picture shows."""
    lines = [found["title"], ""]

    def table(title, head, rows):
        lines.extend([f"{title}:", "", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"])
        lines.extend(f"| {' | '.join(row)} |" for row in rows)
        lines.append("")

    def result(score):
        share = "diverged" if score["share"] is None else f"{score['share']:.3f}"
        return f"**{share}**, {score['steps']} steps" if score["solved"] else share

    for task, lengths in (("adding", found["lengths"]), ("copying", found["pauses"])):
        solved = any(s["solved"] for scores in found[task].values() for s in scores.values())
        bold = "bold is solved" if solved else "no one has solved it yet: too early to compare"
        table(
            f"{task}: loss, as a share of the loss without memory; {bold}",
            ["", "units", "parameters", *map(str, lengths)],
            [
                [name, str(sizes["units"]), str(sizes["parameters"])]
                + [result(score) for score in found[task][name].values()]
                for name, sizes in ((n, s[task]) for n, s in found["contenders"].items())
            ],
        )
    measured, clip = found["measured_length"], found["clip"]
    half = measured // 2

    def halfway(norms):
        return min(norms, key=lambda point: abs(point[0] - half))[1]

    table(
        f"adding over {measured} steps: ‖∂s_T/∂s_t‖ for T − t = {half}",
        ["", "at the start", "trained"],
        [
            [name, *(f"{halfway(norms[when]):.1e}" for when in ("at the start", "trained"))]
            for name, norms in found["gradient"].items()
        ],
    )
    table(
        f"adding over {measured} steps, clipped at {clip} or not; largest gradient",
        ["", "clipped", "not clipped"],
        [
            [name, *(f"{result(r)}; {_largest(r)}" for r in both.values())]
            for name, both in found["clipping"].items()
        ],
    )
    table(
        "gates, trained: share of values",
        ["", "below 0.1", "above 0.9"],
        [
            [f"{name}, {gate}", f"{share['below 0.1']:.0%}", f"{share['above 0.9']:.0%}"]
            for name, gates in found["gates"].items()
            for gate, share in gates.items()
        ],
    )
    return "\n".join(lines)


def _largest(score: dict) -> str:
    norms = [norm for _, norm in score["gradient_norms"]]
    return "not finite" if None in norms else f"{max(norms):.3g}"
