"""The report's charts as plain geometry; templates/report/charts.svg.j2 draws it.

Each chart is made for a given width of paper, because text in a scaled SVG would shrink with it:
the report carries a wide and a narrow form of each and shows the one that fits.
"""
