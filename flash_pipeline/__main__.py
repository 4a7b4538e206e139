"""`python -m flash_pipeline`."""

from flash_pipeline.cli import main

if __name__ == "__main__":
    main()
