def main(**options):
    return 1
